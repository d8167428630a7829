package disk

import (
	"errors"
	"os"
)

// A Range is a part of something, from the offset From up to To.
type Range struct{ From, To int64 }

// block in bytes is what file systems deal in at least; most say so themselves.
const block = 4096

// Written returns which parts of f between from and to may have been written to,
// ascending and counted from from, by what the file system says of holes. Those that border on
// a hole are shortened by a block there, for it may be half-written. What was
// written to and then lost in a crash may be among them, and everything may be
// where the file system cannot tell; nothing beyond the end of the file is.
func Written(f *os.File, from, to int64) ([]Range, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	edge := blockSize(info)
	var written []Range
	for at, end := from, min(to, info.Size()); at < end; {
		r, err := nextData(f, at, end)
		if errors.Is(err, errors.ErrUnsupported) {
			r = Range{at, end}
		} else if err != nil {
			return nil, err
		}
		at = max(r.To, at+1)
		if r.From > from {
			r.From += edge
		}
		if r.To < to && r.To < info.Size() {
			r.To -= edge
		}
		if r.From < r.To {
			written = append(written, Range{r.From - from, r.To - from})
		}
	}
	return written, nil
}
