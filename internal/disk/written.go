package disk

import (
	"errors"
	"os"
)

// A Range is a part of a file or shard, from the offset From up to To.
type Range struct{ From, To int64 }

// block in bytes is the least unit of file systems; most report theirs.
const block = 4096

// Written returns the parts of f between from and to that may have been written, ascending
// and counted from from, by the holes in the file. A part that borders on a hole is shortened
// by a block there, for that may be half written. Parts that were lost in a crash may be
// among them, and all parts where the file system reports no holes; none is beyond the end
// of the file.
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
