package delta

import (
	"errors"
	"fmt"
	"slices"
)

// MaxCopies is the most copies that a delta may be made of. A list of so many takes 24 MB.
const MaxCopies = 1_000_000

// ErrCopies is wrapped by what [Encode] returns for a list of copies that is not as [Copy] says. Nothing has been
// written then.
var ErrCopies = errors.New("bad list of copies")

// Copy predicts Size bytes of the target from Offset on: that they are about those of the base from Base on. The
// prediction need not be right, since a delta carries the difference. In a list, copies ascend by Offset without
// overlap, lie inside the target and the base, are not empty, and are at most [MaxCopies].
type Copy struct {
	Offset int64 // in the target
	Base   int64 // in the base
	Size   int64
}

// shift is how far the bytes lie further on in the base than in the target.
func (c Copy) shift() int64 { return c.Base - c.Offset }

func checkCopies(copies []Copy, baseSize, targetSize int64) error {
	if len(copies) > MaxCopies {
		return fmt.Errorf("%w: %d of them, at most %d can be used", ErrCopies, len(copies), MaxCopies)
	}
	end := int64(0)
	for i, c := range copies {
		switch {
		case c.Size <= 0:
			return fmt.Errorf("%w: copy %d has the size %d", ErrCopies, i, c.Size)
		case c.Offset < end:
			return fmt.Errorf("%w: copy %d begins at %d, before the end of the one before it", ErrCopies, i, c.Offset)
		case c.Offset > targetSize || c.Size > targetSize-c.Offset:
			return fmt.Errorf("%w: copy %d goes beyond the end of the target", ErrCopies, i)
		case c.Base < 0 || c.Base > baseSize || c.Size > baseSize-c.Base:
			return fmt.Errorf("%w: copy %d goes beyond the end of the base", ErrCopies, i)
		}
		end = c.Offset + c.Size
	}
	return nil
}

// appendPieces appends the parts of copies that lie in the n bytes of the target from offset on, at most maxPieces.
// Their Offset counts from there.
func appendPieces(pieces, copies []Copy, offset int64, n int) []Copy {
	first, _ := slices.BinarySearchFunc(copies, offset, func(c Copy, offset int64) int {
		if c.Offset+c.Size <= offset {
			return -1
		}
		return 1
	})
	for _, c := range copies[first:] {
		if c.Offset >= offset+int64(n) || len(pieces) == maxPieces {
			break
		}
		skip := max(0, offset-c.Offset)
		at := c.Offset + skip - offset
		pieces = append(pieces, Copy{Offset: at, Base: c.Base + skip, Size: min(c.Size-skip, int64(n)-at)})
	}
	return pieces
}
