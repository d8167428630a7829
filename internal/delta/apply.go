package delta

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"
)

// magic is the first line of a delta.
const magic = "shardcast delta 1\n"

// maxSize is the largest stream that a delta may be for.
const maxSize = 1 << 61

// Header stands at the beginning of a delta.
type Header struct {
	BaseSize   int64
	TargetSize int64
}

func (h Header) append(b []byte) []byte {
	b = append(b, magic...)
	b = binary.AppendUvarint(b, uint64(h.BaseSize))
	return binary.AppendUvarint(b, uint64(h.TargetSize))
}

// Reader reads a delta. It is for one goroutine, and one [Reader.Apply].
type Reader struct {
	header Header
	in     *bufio.Reader
}

// NewReader reads the header of the delta that r has, and allocates nothing that depends on it. Its errors match
// [ErrFormat], or are those of r.
func NewReader(r io.Reader) (*Reader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	first := make([]byte, len(magic))
	if _, err := io.ReadFull(in, first); err != nil {
		return nil, fmt.Errorf("header: %w", ends(err))
	}
	if string(first) != magic {
		return nil, formatError("it does not begin as a delta does")
	}
	d := &Reader{in: in}
	for _, size := range []*int64{&d.header.BaseSize, &d.header.TargetSize} {
		v, err := readNumber(in)
		if err != nil {
			return nil, fmt.Errorf("header: %w", err)
		}
		if v > maxSize {
			return nil, formatError("a stream of more than 2^61 bytes")
		}
		*size = int64(v)
	}
	return d, nil
}

// Header returns the sizes, which are to be compared with those of the streams before anything is made of them.
func (d *Reader) Header() Header { return d.header }

// Progress are the functions by which [Reader.Apply] asks and tells. Both may be nil. Each is called by one goroutine
// at a time, and holds up others meanwhile.
type Progress struct {
	// Skip says whether the caller has the bytes of a block already, which is then neither read from the base nor
	// decoded nor written. Blocks come in order, each once.
	Skip func(offset, size int64) bool

	// Done says that all bytes of the target before end have been written, or skipped. It only grows.
	Done func(end int64)
}

// Apply writes the target to w, of which base and the rest of the delta consist. It holds no more than 24 MiB,
// whatever it reads. Blocks, of [BlockSize] bytes, are written whole, in one call each and several at a time, as soon
// as the delta's bytes for them have come.
//
// A delta is a hint: that there is no error does not mean that the target is right, so the caller verifies it by
// digests. Whatever is read, nothing is written outside the target, and no byte of it twice. Errors that match
// [ErrFormat] say that the delta is wrong, or at its end too soon; those of its reader, of base (for example
// [io.ErrUnexpectedEOF], when it is shorter than the header says) and of w are wrapped. After an error, what
// Progress.Done has told holds. The end of ctx is seen between two blocks, and does not end a call of Read.
func (d *Reader) Apply(ctx context.Context, base io.ReaderAt, w io.WriterAt, progress Progress) error {
	a := &applying{in: d.in, header: d.header, base: base, w: w, progress: progress, written: map[int64]int64{}}
	group, ctx := errgroup.WithContext(ctx)
	for range workers(d.header.TargetSize, decoderMemory) {
		group.Go(func() error { return a.work(ctx) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if _, err := d.in.ReadByte(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = formatError("it goes on after its last block")
		}
		return err
	}
	return nil
}

// decoderMemory is about the most that a goroutine takes that decodes.
const decoderMemory = 8 << 20

// applying is one call of Apply.
type applying struct {
	header   Header
	base     io.ReaderAt
	w        io.WriterAt
	progress Progress

	reading sync.Mutex // guards these; is held while bytes of the delta are waited for, and taken before writing
	in      *bufio.Reader
	run     run
	next    int64 // offset of the next block

	writing sync.Mutex      // guards these
	end     int64           // all before it has been written
	written map[int64]int64 // ends of blocks beyond end, by their offsets
}

func (a *applying) work(ctx context.Context) error {
	block, err := newBlockDecoder(int(min(BlockSize, a.header.TargetSize)))
	if err != nil {
		return err
	}
	defer block.expander.zstd.Close()
	for ctx.Err() == nil {
		offset, n, equal, shift, err := a.take(block)
		if n == 0 || err != nil {
			return err
		}
		if err := a.apply(block, offset, n, equal, shift); err != nil {
			return fmt.Errorf("block at %d: %w", offset, err)
		}
	}
	return context.Cause(ctx)
}

func (a *applying) apply(block *blockDecoder, offset int64, n int, equal bool, shift int64) (err error) {
	var data []byte
	if equal {
		data, err = block.equal(a.base, offset, shift, n)
	} else {
		data, err = block.decode(a.base, a.header.BaseSize, offset, n)
	}
	if err != nil {
		return err
	}
	if _, err := a.w.WriteAt(data, offset); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	a.done(offset, n)
	return nil
}

// take reads the next block that is not skipped; n is 0 if there is none.
func (a *applying) take(block *blockDecoder) (offset int64, n int, equal bool, shift int64, err error) {
	a.reading.Lock()
	defer a.reading.Unlock()
	for a.next < a.header.TargetSize {
		offset = a.next
		n = int(min(BlockSize, a.header.TargetSize-offset))
		skip := a.progress.Skip != nil && a.progress.Skip(offset, int64(n))
		equal, err = a.read(block, offset, n, skip)
		if err != nil {
			return 0, 0, false, 0, fmt.Errorf("block at %d: %w", offset, err)
		}
		a.next += int64(n)
		if !skip {
			return offset, n, equal, a.run.shift, nil
		}
		a.done(offset, n)
	}
	if a.run.blocks > 0 {
		return 0, 0, false, 0, formatError("a run of blocks goes beyond the end of the target")
	}
	return 0, 0, false, 0, nil
}

// read reads the block's body, or that it is equal to the base at the shift of a.run.
func (a *applying) read(block *blockDecoder, offset int64, n int, skip bool) (equal bool, err error) {
	size, err := a.run.read(a.in)
	switch {
	case err != nil:
		return false, err
	case size > 0 && skip:
		_, err := a.in.Discard(size)
		return false, ends(err)
	case size > 0:
		return false, ends(block.fill(a.in, size))
	}
	return true, a.run.check(offset, n, a.header.BaseSize)
}

// read reads the record of the next block from in, unless the block is one more of r, and returns the size of the body
// that follows it, or 0 if the block is one of r.
func (r *run) read(in io.ByteReader) (body int, err error) {
	if r.blocks == 0 {
		size, err := readNumber(in)
		switch {
		case err != nil:
			return 0, err
		case size > maxBody:
			return 0, formatError(fmt.Sprintf("a block takes %d bytes, more than %d", size, maxBody))
		case size > 0:
			return int(size), nil
		}
		if err := r.begin(in); err != nil {
			return 0, err
		}
	}
	r.blocks--
	return 0, nil
}

func (r *run) begin(in io.ByteReader) error {
	blocks, err := readNumber(in)
	if err != nil {
		return err
	}
	if blocks == 0 || blocks > maxSize {
		return formatError(fmt.Sprintf("a run of %d blocks", blocks))
	}
	shift, err := readNumber(in)
	if err != nil {
		return err
	}
	*r = run{blocks: int64(blocks), shift: int64(shift>>1) ^ -int64(shift&1)}
	return nil
}

// check refuses a block of n bytes at offset that would be equal to bytes beyond the base.
func (r *run) check(offset int64, n int, baseSize int64) error {
	from := offset + r.shift
	if from < 0 || from > baseSize || int64(n) > baseSize-from {
		return formatError("it is said to be equal to bytes beyond the base")
	}
	return nil
}

// done notes that a block has been written, and says so once all before it have been, too.
func (a *applying) done(offset int64, n int) {
	a.writing.Lock()
	defer a.writing.Unlock()
	a.written[offset] = offset + int64(n)
	before := a.end
	for {
		end, ok := a.written[a.end]
		if !ok {
			break
		}
		delete(a.written, a.end)
		a.end = end
	}
	if a.end > before && a.progress.Done != nil {
		a.progress.Done(a.end)
	}
}

// ends returns err as one of the format, if it is that there is nothing more to read.
func ends(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return formatError("it ends too soon")
	}
	return err
}

// numberTooLong is said of a number that ends with a byte of 0. Each number has one form, so a header has one length.
const numberTooLong = "a number takes more bytes than it needs"

// readNumber reads an unsigned number of at most 64 bits.
func readNumber(r io.ByteReader) (uint64, error) {
	v := uint64(0)
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, ends(err)
		}
		if shift == 63 && b > 1 {
			return 0, formatError("a number is too large")
		}
		if shift > 0 && b == 0 {
			return 0, formatError(numberTooLong)
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
}
