package delta

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

const (
	// mostMarks is the most places in a delta that a Target remembers. Each takes 24 bytes.
	mostMarks = 32 << 10

	// mostMade is how many times, all in all, a Target makes as many blocks as it has. A delta that moves bytes about
	// needs blocks of its base more than once; one that was made to be slow needs many for each.
	mostMade = 8
)

// errOften ends the reading of a target whose bytes are wanted in an order that costs too much.
var errOften = errors.New("its blocks are made too often")

// A Target is the target of a delta as a stream that is not written anywhere: it makes a block when bytes of it are
// read, and keeps the last two. Its base may be a Target, so that several deltas, one after the other, turn a stream
// into another one with nothing written between. It takes up to 4 MiB, and the first of them 6 MiB more, whatever it
// reads.
//
// What a [Reader] promises holds for it: an error, or bytes that may be wrong, and no more than the header states. Its
// methods may be called from any goroutine, but those of a base that is a Target only by the one that is made of it.
type Target struct {
	header Header
	in     Stream
	base   Stream
	every  int64 // blocks from one mark to the next
	marks  []mark

	mu      sync.Mutex    // guards what follows
	block   *blockDecoder // that of the base, if that is a Target
	pieces  []Copy
	recent  [2]made // the last one that was used comes first
	left    int64   // blocks that may still be made
	another bool    // the base is a Target
}

// mark is where the record of a block begins, or if it belongs to the run, that of the block after that.
type mark struct {
	at  int64
	run run
}

// made is a block that was made.
type made struct {
	offset int64
	size   int
	data   []byte // empty if there is none
}

// NewTarget returns the target of the delta that in has, from base. It reads the sizes of all blocks. Errors match
// [ErrFormat], also where the delta is for a base of another size, or are those of in.
func NewTarget(in, base Stream) (*Target, error) {
	r := &records{in: in}
	d, err := NewReader(io.NewSectionReader(in, 0, in.Size()))
	if err != nil {
		return nil, err
	}
	t := &Target{header: d.header, in: in, base: base}
	if t.header.BaseSize != base.Size() {
		return nil, formatError(fmt.Sprintf("it is for a base of %d bytes, not %d", t.header.BaseSize, base.Size()))
	}
	r.at = int64(len(t.header.append(nil)))
	if err := t.index(r); err != nil {
		return nil, err
	}
	if below, ok := base.(*Target); ok {
		t.block, t.another = below.block, true
		return t, nil
	}
	t.block, err = newBlockDecoder(BlockSize)
	return t, err
}

// index finds the records of all blocks.
func (t *Target) index(r *records) error {
	blocks := (t.header.TargetSize + BlockSize - 1) / BlockSize
	t.every = max(1, (blocks+mostMarks-1)/mostMarks)
	t.left = mostMade*blocks + mostMade
	for i := int64(0); i < blocks; i++ {
		if i%t.every == 0 {
			t.marks = append(t.marks, mark{r.at, r.run})
		}
		offset := i * BlockSize
		if _, err := r.next(offset, t.sizeAt(offset), t.header.BaseSize); err != nil {
			return fmt.Errorf("block at %d: %w", offset, err)
		}
	}
	switch {
	case r.run.blocks > 0:
		return formatError("a run of blocks goes beyond the end of the target")
	case r.at < t.in.Size():
		return formatError("it goes on after its last block")
	}
	return nil
}

// sizeAt is that of the block at offset.
func (t *Target) sizeAt(offset int64) int { return int(min(BlockSize, t.header.TargetSize-offset)) }

// Size is that of the target, in bytes.
func (t *Target) Size() int64 { return t.header.TargetSize }

// Close gives back what decoding takes, here and in a base that is a Target. It may be called again.
func (t *Target) Close() { t.block.expander.zstd.Close() }

// ReadAt makes the bytes of p. Errors match [ErrFormat] if the delta is wrong, or are those of the streams; or blocks
// are wanted again and again, more than eight times as many as there are.
func (t *Target) ReadAt(p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, errors.New("an offset before the start")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for n < len(p) {
		if offset >= t.header.TargetSize {
			return n, io.EOF
		}
		block := offset / BlockSize * BlockSize
		size := min(len(p)-n, t.sizeAt(block)-int(offset-block))
		if err := t.read(p[n:][:size], block, int(offset-block)); err != nil {
			return n, fmt.Errorf("block at %d: %w", block, err)
		}
		n += size
		offset += int64(size)
	}
	return n, nil
}

// read fills p with bytes of the block at offset, from its byte number at on.
func (t *Target) read(p []byte, offset int64, at int) error {
	if t.recent[1].has(offset) {
		t.recent[0], t.recent[1] = t.recent[1], t.recent[0]
	}
	if t.recent[0].has(offset) {
		copy(p, t.recent[0].data[at:])
		return nil
	}
	r, err := t.find(offset)
	if err != nil {
		return err
	}
	if r.body == 0 {
		if err := readFull(t.base, p, offset+r.run.shift+int64(at)); err != nil {
			return fmt.Errorf("base: %w", err)
		}
		return nil
	}
	if t.left--; t.left < 0 {
		return errOften
	}
	t.recent[0], t.recent[1] = t.recent[1], t.recent[0]
	if err := t.make(&t.recent[0], r, offset); err != nil {
		return err
	}
	copy(p, t.recent[0].data[at:])
	return nil
}

func (m *made) has(offset int64) bool { return m.size > 0 && m.offset == offset }

// find returns the records at that of the block at offset.
func (t *Target) find(offset int64) (r *records, err error) {
	number := offset / BlockSize
	from := t.marks[number/t.every]
	r = &records{in: t.in, at: from.at, run: from.run}
	for i := number / t.every * t.every; i <= number; i++ {
		if r.body, err = r.next(i*BlockSize, t.sizeAt(i*BlockSize), t.header.BaseSize); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// make makes the block at offset, whose body r has come to.
func (t *Target) make(to *made, r *records, offset int64) error {
	if to.data == nil {
		to.data = make([]byte, BlockSize+maxPad)
	}
	n, d := t.sizeAt(offset), t.block
	to.size = 0
	begin := func() (head, error) {
		d.base, d.pieces = to.data, t.pieces
		body := io.NewSectionReader(t.in, r.at-int64(r.body), int64(r.body))
		if err := ends(d.fill(body, r.body)); err != nil {
			return head{}, err
		}
		h, err := d.head(t.header.BaseSize, offset, n)
		t.pieces = d.pieces
		return h, err
	}
	h, err := begin()
	if err == nil {
		err = d.predict(t.base)
	}
	if err == nil && t.another { // which has used the decoder
		h, err = begin()
	}
	if err != nil {
		return err
	}
	data, err := d.finish(h, n)
	if err != nil {
		return err
	}
	copy(to.data, data) // nothing, if it was made there
	to.offset, to.size = offset, n
	return nil
}

// records are those of a delta, one after the other.
type records struct {
	in   Stream
	at   int64 // of the next one
	run  run
	body int // bytes before at: the body of the last block, or 0 for one of the run

	text [16]byte // of in, from the offset on
	from int64
	n    int
}

// next goes on over the record of the next block, which has n bytes at offset, and returns the size of its body.
func (r *records) next(offset int64, n int, baseSize int64) (body int, err error) {
	body, err = r.run.read(r)
	switch {
	case err != nil:
		return 0, err
	case body == 0:
		return 0, r.run.check(offset, n, baseSize)
	case int64(body) > r.in.Size()-r.at:
		return 0, ends(io.ErrUnexpectedEOF)
	}
	r.at += int64(body)
	return body, nil
}

// ReadByte reads a byte of a record.
func (r *records) ReadByte() (byte, error) {
	if r.at < r.from || r.at >= r.from+int64(r.n) {
		size := min(int64(len(r.text)), r.in.Size()-r.at)
		if size <= 0 {
			return 0, io.EOF
		}
		r.from, r.n = r.at, 0
		if err := readFull(r.in, r.text[:size], r.at); err != nil {
			return 0, err
		}
		r.n = int(size)
	}
	b := r.text[r.at-r.from]
	r.at++
	return b, nil
}
