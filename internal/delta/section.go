package delta

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/klauspost/compress/fse"
	"github.com/klauspost/compress/zstd"
)

// The methods of a section: how its bytes are written.
const (
	stored   = 0
	constant = 1
	entropy  = 2
	packed   = 3
)

const (
	// minPacked is the size from which on it is worth looking whether a section gets smaller.
	minPacked = 16

	// sampled is the size above which the method is chosen by what it makes of a part of the section.
	sampled    = 64 << 10
	sampleSize = 32 << 10
)

// squeezer writes sections. It belongs to one goroutine.
type squeezer struct {
	fse  fse.Scratch
	zstd *zstd.Encoder
	out  []byte // for zstd
}

func newSqueezer() (*squeezer, error) {
	// Sections are at most a block, so a window of a block is all of one.
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(BlockSize),
		zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	return &squeezer{zstd: encoder}, err
}

// append appends raw as a section to body, by the method that makes it smallest.
func (s *squeezer) append(body, raw []byte) []byte {
	method, coded := stored, raw
	switch {
	case len(raw) > 1 && isConstant(raw):
		method, coded = constant, raw[:1]
	case len(raw) >= minPacked:
		sample := raw
		if len(raw) > sampled {
			sample = raw[len(raw)/2:][:sampleSize]
		}
		method, coded = s.smallest(sample)
		if len(sample) < len(raw) {
			method, coded = s.squeeze(raw, method)
		}
	}
	body = binary.AppendUvarint(body, uint64(len(raw))<<2|uint64(method))
	if method >= entropy {
		body = binary.AppendUvarint(body, uint64(len(coded)))
	}
	return append(body, coded...)
}

func (s *squeezer) smallest(raw []byte) (method int, coded []byte) {
	method, coded = s.squeeze(raw, entropy)
	if _, other := s.squeeze(raw, packed); len(other) < len(coded) {
		return packed, other
	}
	return method, coded
}

// squeeze returns raw itself if the method does not make it smaller. What it returns holds until the next call with
// that method.
func (s *squeezer) squeeze(raw []byte, method int) (used int, coded []byte) {
	switch method {
	case entropy:
		out, err := fse.Compress(raw, &s.fse)
		if err != nil { // not smaller
			return stored, raw
		}
		coded = out
	case packed:
		s.out = s.zstd.EncodeAll(raw, s.out[:0])
		coded = s.out
	default:
		return stored, raw
	}
	if len(coded)+2 >= len(raw) {
		return stored, raw
	}
	return method, coded
}

func isConstant(raw []byte) bool {
	for _, b := range raw {
		if b != raw[0] {
			return false
		}
	}
	return true
}

// expander reads sections. It belongs to one goroutine.
type expander struct {
	fse  fse.Scratch
	zstd *zstd.Decoder
}

func newExpander() (*expander, error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(BlockSize), zstd.WithDecoderMaxMemory(BlockSize), zstd.WithDecodeAllCapLimit(true))
	return &expander{zstd: decoder}, err
}

// read returns the section at the beginning of body, in memory that is taken from scratch or is body's, and what is
// left of both. A section of more than limit bytes is an error before anything is done for it; scratch must have
// as many.
func (e *expander) read(body, scratch []byte, limit int) (raw, rest, left []byte, err error) {
	head, body, err := cutUvarint(body)
	if err != nil {
		return nil, nil, nil, err
	}
	method := int(head & 3)
	if head>>2 > uint64(limit) {
		return nil, nil, nil, formatError(fmt.Sprintf("a section of %d bytes where %d are the most", head>>2, limit))
	}
	size := int(head >> 2)
	coded := uint64(size)
	switch method {
	case constant:
		coded = 1
	case entropy, packed:
		if coded, body, err = cutUvarint(body); err != nil {
			return nil, nil, nil, err
		}
	}
	if coded > uint64(len(body)) {
		return nil, nil, nil, formatError("a section goes beyond its block")
	}
	rest, body = body[coded:], body[:coded]
	raw, left = scratch[:size:size], scratch[size:]
	switch method {
	case stored:
		return body, rest, scratch, nil
	case constant:
		for i := range raw {
			raw[i] = body[0]
		}
		return raw, rest, left, nil
	case entropy:
		// The limit is checked once in 256 bytes, and a result of just its size is refused.
		e.fse.Out, e.fse.DecompressLimit = raw[:0:size], size+1
		raw, err = fse.Decompress(body, &e.fse)
	case packed:
		raw, err = e.zstd.DecodeAll(body, raw[:0:size])
	}
	if err != nil {
		return nil, nil, nil, formatError(err.Error())
	}
	if len(raw) != size {
		return nil, nil, nil, formatError(fmt.Sprintf("a section has %d bytes and not %d", len(raw), size))
	}
	return raw, rest, left, nil
}

// cutUvarint returns the number at the beginning of body, at most 2^62, and what follows it.
func cutUvarint(body []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(body)
	if n <= 0 || v > math.MaxInt64/2 {
		return 0, nil, formatError("a number that ends too late")
	}
	if n > 1 && body[n-1] == 0 {
		return 0, nil, formatError(numberTooLong)
	}
	return v, body[n:], nil
}
