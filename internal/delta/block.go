package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// BlockSize is how many bytes of the target a block is, all but the last one.
const BlockSize = 1 << 20

const (
	// maxPieces is the most pieces in a block.
	maxPieces = BlockSize / 32

	// maxPieceSize is the most bytes that a piece takes: two numbers below 2^21 and one of 64 bits.
	maxPieceSize = 3 + 3 + binary.MaxVarintLen64

	// maxBody is the most bytes of a block's body: those of one that is stored, and some for its heads.
	maxBody = BlockSize + 64
)

// ErrFormat is wrapped by every error which says that a delta is not one, or not whole.
var ErrFormat = errors.New("bad delta")

func formatError(text string) error { return fmt.Errorf("%w: %s", ErrFormat, text) }

// blockEncoder makes the bodies of blocks. It belongs to one goroutine.
type blockEncoder struct {
	squeezer *squeezer
	pieces   []Copy
	target   []byte // a block
	covered  []byte // the bytes of target in pieces, one piece after the other
	base     []byte // their prediction
	literals []byte // the bytes of target outside of pieces
	changes  changes
	body     []byte
	alone    []byte // the section of all of target
	list     []byte // of pieces
	counts   Stats
}

// newBlockEncoder returns one for blocks of at most size bytes.
func newBlockEncoder(size int) (*blockEncoder, error) {
	s, err := newSqueezer()
	return &blockEncoder{squeezer: s, target: make([]byte, size+maxPad), base: make([]byte, size+maxPad)}, err
}

// maxPad is more than what makes any number of bytes a multiple of what [changes.find] and [changes.apply] take.
const maxPad = 8

// encode makes the block of n bytes at offset. The body is empty if the block is equal to the base at shift. It holds
// until the next call.
func (e *blockEncoder) encode(copies []Copy, base, target Stream, offset int64, n int) (shift int64, err error) {
	e.body = e.body[:0]
	e.counts = Stats{}
	e.literals = e.literals[:0]
	e.pieces = appendPieces(e.pieces[:0], copies, offset, n)
	if err := readFull(target, e.target[:n], offset); err != nil {
		return 0, fmt.Errorf("target: %w", err)
	}
	predicted := 0
	for _, p := range e.pieces {
		if err := readFull(base, e.base[predicted:][:p.Size], p.Base); err != nil {
			return 0, fmt.Errorf("base: %w", err)
		}
		predicted += int(p.Size)
	}
	covered := e.target
	if predicted < n {
		covered = e.split(n)
	} else if shift, ok := e.shift(offset); ok && bytes.Equal(e.target[:n], e.base[:n]) {
		e.counts.Equal = int64(n)
		return shift, nil
	}
	e.counts.Literal = int64(n - predicted)

	padded := (predicted + maxPad - 1) / maxPad * maxPad
	clear(covered[predicted:padded])
	clear(e.base[predicted:padded])
	width := e.find(covered[:padded], e.base[:padded])
	e.counts.Changed = int64(e.changes.count * width)
	e.list = appendPieceList(e.list[:0], e.pieces, offset)
	e.write(width, len(e.pieces), e.literals)
	if len(e.body) > n/4 && predicted > 0 {
		e.withoutPieces(n)
	}
	return 0, nil
}

// shift is that of all pieces, if they have the same.
func (e *blockEncoder) shift(offset int64) (shift int64, ok bool) {
	shift = e.pieces[0].shift() - offset
	for _, p := range e.pieces {
		if p.shift()-offset != shift {
			return 0, false
		}
	}
	return shift, true
}

// split takes the block apart into literals and the bytes that are predicted, which it returns.
func (e *blockEncoder) split(n int) []byte {
	e.covered = e.covered[:0]
	end := int64(0)
	for _, p := range e.pieces {
		e.literals = append(e.literals, e.target[end:p.Offset]...)
		end = p.Offset + p.Size
		e.covered = append(e.covered, e.target[p.Offset:end]...)
	}
	e.literals = append(e.literals, e.target[end:n]...)
	e.covered = append(e.covered, make([]byte, maxPad)...)
	return e.covered
}

// find finds the changes in lanes of the width that is best.
func (e *blockEncoder) find(target, base []byte) (width int) {
	best := math.Inf(1)
	for _, w := range []int{2, 1, 4} {
		e.changes.reset()
		e.sample(target, base, w)
		if cost := e.changes.cost(w); cost < best {
			best, width = cost, w
		}
	}
	e.changes.reset()
	e.changes.find(target, base, width)
	return width
}

// sample finds changes in some parts of the block, or in all of it if these have few.
func (e *blockEncoder) sample(target, base []byte, width int) {
	const parts, part, few = 4, 16 << 10, 64
	if len(target) > parts*part {
		for i := range parts {
			at := len(target) / parts * i &^ (maxPad - 1)
			e.changes.find(target[at:][:part], base[at:][:part], width)
		}
		if e.changes.count >= few {
			return
		}
		e.changes.reset()
	}
	e.changes.find(target, base, width)
}

// write makes the body of what has been found.
func (e *blockEncoder) write(width, pieces int, literals []byte) {
	e.body = append(e.body[:0], byte(width))
	e.body = binary.AppendUvarint(e.body, uint64(pieces))
	e.body = binary.AppendUvarint(e.body, uint64(e.changes.count))
	e.body = e.squeezer.append(e.body, e.list)
	e.body = e.squeezer.append(e.body, literals)
	e.body = e.squeezer.append(e.body, e.changes.gaps)
	for _, plane := range e.changes.planes[:width] {
		e.body = e.squeezer.append(e.body, plane)
	}
}

// withoutPieces makes the body anew from the target alone, if that makes it smaller.
func (e *blockEncoder) withoutPieces(n int) {
	e.alone = e.squeezer.append(e.alone[:0], e.target[:n])
	const rest = 1 + 1 + 1 + 1 + 1 + 1 // width, counts, list, gaps, plane
	if len(e.alone)+rest >= len(e.body) {
		return
	}
	e.body = append(e.body[:0], 1, 0, 0, 0)
	e.body = append(e.body, e.alone...)
	e.body = append(e.body, 0, 0)
	e.counts = Stats{Literal: int64(n)}
}

func appendPieceList(list []byte, pieces []Copy, offset int64) []byte {
	end, shift := int64(0), int64(0)
	for _, p := range pieces {
		list = binary.AppendUvarint(list, uint64(p.Offset-end))
		list = binary.AppendUvarint(list, uint64(p.Size))
		list = binary.AppendVarint(list, p.shift()-offset-shift)
		end, shift = p.Offset+p.Size, p.shift()-offset
	}
	return list
}

// blockDecoder makes blocks of bodies. It belongs to one goroutine.
type blockDecoder struct {
	expander *expander
	scratch  []byte // for the sections of a block
	left     []byte // of scratch
	pieces   []Copy
	base     []byte // the predictions, one after the other
	out      []byte
	body     []byte
	changes  changes
}

// newBlockDecoder returns one for blocks of at most size bytes.
func newBlockDecoder(size int) (*blockDecoder, error) {
	e, err := newExpander()
	return &blockDecoder{
		expander: e,
		base:     make([]byte, size+maxPad),
		// The list; literals and values together; gaps. It is touched as far as it is needed.
		scratch: make([]byte, min(maxPieces, size)*maxPieceSize+size+maxPad+size+size/255),
	}, err
}

// fill reads the body of a block, which has size bytes.
func (d *blockDecoder) fill(in io.Reader, size int) error {
	d.body = slices.Grow(d.body[:0], size)[:size]
	_, err := io.ReadFull(in, d.body)
	return err
}

// equal returns the block of n bytes at offset that is equal to the base at shift.
func (d *blockDecoder) equal(base io.ReaderAt, offset, shift int64, n int) ([]byte, error) {
	if err := readFull(base, d.base[:n], offset+shift); err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	return d.base[:n], nil
}

// decode returns the block of n bytes at offset that has the body d.body. It holds until the next call.
func (d *blockDecoder) decode(base io.ReaderAt, baseSize, offset int64, n int) ([]byte, error) {
	h, err := d.head(baseSize, offset, n)
	if err != nil {
		return nil, err
	}
	if err := d.predict(base); err != nil {
		return nil, err
	}
	return d.finish(h, n)
}

// head is the beginning of a body, after which its sections follow but for the list.
type head struct {
	width, count, predicted int
	sections                []byte
}

// head reads the beginning of the body, for a block of n bytes at offset, into d.pieces.
func (d *blockDecoder) head(baseSize, offset int64, n int) (h head, err error) {
	d.left = d.scratch
	h.width = int(d.body[0])
	if h.width != 1 && h.width != 2 && h.width != 4 {
		return h, formatError(fmt.Sprintf("lanes of %d bytes", h.width))
	}
	pieces, rest, err := cutUvarint(d.body[1:])
	if err != nil {
		return h, err
	}
	count, rest, err := cutUvarint(rest)
	if err != nil {
		return h, err
	}
	if pieces > uint64(min(maxPieces, n)) {
		return h, formatError("too many pieces")
	}
	list, rest, err := d.read(rest, int(pieces)*maxPieceSize)
	if err != nil {
		return h, err
	}
	if h.predicted, err = d.parsePieces(list, int(pieces), baseSize, offset, n); err != nil {
		return h, err
	}
	if count > uint64(h.lanes()) {
		return h, formatError("more changes than lanes")
	}
	h.count, h.sections = int(count), rest
	return h, nil
}

func (h head) lanes() int { return (h.predicted + h.width - 1) / h.width }

// predict reads the predictions of all pieces into d.base.
func (d *blockDecoder) predict(base io.ReaderAt) error {
	at, into := 0, d.base // the base may be one that uses d meanwhile
	for _, p := range d.pieces {
		if err := readFull(base, into[at:][:p.Size], p.Base); err != nil {
			return fmt.Errorf("base: %w", err)
		}
		at += int(p.Size)
	}
	clear(into[at:][:maxPad])
	return nil
}

// finish makes the block of n bytes of its predictions, and of what follows its head.
func (d *blockDecoder) finish(h head, n int) ([]byte, error) {
	literals, err := d.parse(h, n)
	if err != nil {
		return nil, err
	}
	if err := d.changes.apply(d.base, h.lanes(), h.width); err != nil {
		return nil, err
	}
	if h.predicted == n {
		return d.base[:n], nil
	}
	if h.predicted == 0 {
		return literals, nil
	}
	d.out = d.out[:0]
	from := d.base
	for _, p := range d.pieces {
		gap := int(p.Offset) - len(d.out)
		d.out = append(d.out, literals[:gap]...)
		d.out = append(d.out, from[:p.Size]...)
		literals, from = literals[gap:], from[p.Size:]
	}
	d.out = append(d.out, literals...)
	return d.out, nil
}

// parse reads what follows the head into literals and d.changes. All their sizes fit together afterwards.
func (d *blockDecoder) parse(h head, n int) (literals []byte, err error) {
	literals, rest, err := d.read(h.sections, n-h.predicted)
	if err != nil {
		return nil, err
	}
	if len(literals) != n-h.predicted {
		return nil, formatError("the bytes of the block are not as many as it has")
	}
	d.changes.count = h.count
	d.changes.gaps, rest, err = d.read(rest, h.count+h.lanes()/255)
	if err != nil {
		return nil, err
	}
	for i := range h.width {
		d.changes.planes[i], rest, err = d.read(rest, h.count)
		if err != nil {
			return nil, err
		}
		if len(d.changes.planes[i]) != h.count {
			return nil, formatError("the values are not as many as the changes")
		}
	}
	if len(rest) > 0 {
		return nil, formatError("a block goes on after its last section")
	}
	return literals, nil
}

// read reads a section of at most limit bytes. By their limits, those of one block fit into scratch.
func (d *blockDecoder) read(body []byte, limit int) (raw, rest []byte, err error) {
	raw, rest, d.left, err = d.expander.read(body, d.left, limit)
	return raw, rest, err
}

func (d *blockDecoder) parsePieces(list []byte, pieces int, baseSize, offset int64, n int) (predicted int, err error) {
	d.pieces = d.pieces[:0]
	end, shift := 0, int64(0)
	for range pieces {
		gap, rest, err := cutUvarint(list)
		if err != nil {
			return 0, err
		}
		size, rest, err := cutUvarint(rest)
		if err != nil {
			return 0, err
		}
		step, k := binary.Varint(rest)
		if k <= 0 {
			return 0, formatError("a number that ends too late")
		}
		if k > 1 && rest[k-1] == 0 {
			return 0, formatError(numberTooLong)
		}
		list = rest[k:]
		if gap > uint64(n-end) || size == 0 || size > uint64(n-end)-gap {
			return 0, formatError("a piece goes beyond its block")
		}
		// Wraps around rather than to overflow: any sum is as good as another until it is checked.
		shift += step
		at := end + int(gap)
		from := offset + int64(at) + shift
		if from < 0 || from > baseSize || int64(size) > baseSize-from {
			return 0, formatError("a piece goes beyond the base")
		}
		d.pieces = append(d.pieces, Copy{Offset: int64(at), Base: from, Size: int64(size)})
		end = at + int(size)
		predicted += int(size)
	}
	if len(list) > 0 {
		return 0, formatError("there are more pieces than the block says")
	}
	return predicted, nil
}

// readFull fills data from offset on. That there is less is an error that matches [io.ErrUnexpectedEOF].
func readFull(from io.ReaderAt, data []byte, offset int64) error {
	n, err := from.ReadAt(data, offset)
	if n == len(data) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
