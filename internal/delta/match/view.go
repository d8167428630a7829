package match

import (
	"errors"
	"io"

	"github.com/shardcast/shardcast/internal/delta"
)

const (
	pageSize = 64 << 10
	pages    = 16
)

// view reads a part of a stream at any place, in pages of which it keeps some. Its first error ends the view: nothing
// can be read any more, and err has it.
type view struct {
	stream     io.ReaderAt
	start, end int64 // the part; what is outside cannot be read
	alive      func() error
	pages      [pages]page
	err        error
}

type page struct {
	offset int64 // of the stream, a multiple of pageSize
	data   []byte
}

// newView returns a view of a part of s, which ends with the error of alive.
func newView(s delta.Stream, part span, alive func() error) *view {
	return &view{stream: s, start: part.start, end: part.end, alive: alive}
}

// page returns the page that has the byte at offset, and where in it. It is nil if there is none.
func (v *view) page(offset int64) (data []byte, at int) {
	number := offset / pageSize
	p := &v.pages[number%pages]
	if p.data == nil || p.offset != number*pageSize {
		if v.err == nil {
			v.err = v.alive()
		}
		if v.err != nil {
			return nil, 0
		}
		p.offset = number * pageSize
		if cap(p.data) == 0 {
			p.data = make([]byte, pageSize)
		}
		p.data = p.data[:min(pageSize, v.end-p.offset)]
		if n, err := v.stream.ReadAt(p.data, p.offset); n < len(p.data) {
			if v.err = err; err == nil || errors.Is(err, io.EOF) {
				v.err = io.ErrUnexpectedEOF
			}
			p.data = nil
			return nil, 0
		}
	}
	return p.data, int(offset - p.offset)
}

// from returns some bytes from offset on, none if there are none.
func (v *view) from(offset int64) []byte {
	if offset < v.start || offset >= v.end {
		return nil
	}
	data, at := v.page(offset)
	return data[at:]
}

// before returns some bytes that end before offset, none if there are none.
func (v *view) before(offset int64) []byte {
	if offset <= v.start || offset > v.end {
		return nil
	}
	data, at := v.page(offset - 1)
	if data == nil {
		return nil
	}
	first := 0
	if start := v.start - (offset - 1 - int64(at)); start > 0 {
		first = int(start)
	}
	return data[first : at+1]
}

// equalFrom returns how many bytes of a from x on, at most limit, are those of b from y on.
func equalFrom(a *view, x int64, b *view, y, limit int64) int64 {
	n := int64(0)
	for n < limit {
		p, q := a.from(x+n), b.from(y+n)
		most := min(len(p), len(q), int(min(limit-n, pageSize)))
		if most == 0 {
			break
		}
		k := equalPrefix(p[:most], q[:most])
		n += int64(k)
		if k < most {
			break
		}
	}
	return n
}

// equalBefore returns how many bytes of a before x, at most limit, are those of b before y.
func equalBefore(a *view, x int64, b *view, y, limit int64) int64 {
	n := int64(0)
	for n < limit {
		p, q := a.before(x-n), b.before(y-n)
		most := min(len(p), len(q), int(min(limit-n, pageSize)))
		if most == 0 {
			break
		}
		p, q = p[len(p)-most:], q[len(q)-most:]
		k := 0
		for k < most && p[most-1-k] == q[most-1-k] {
			k++
		}
		n += int64(k)
		if k < most {
			break
		}
	}
	return n
}
