package disk

import (
	"io"
	"os"
)

// Copy copies size bytes of src, from the offset from on, to the offset to of dst. Where the
// file system can, both files share the blocks from then on, until one of them is written to;
// whole blocks are copied apart from what is before and behind them, since only they can be
// shared. The error is [io.ErrUnexpectedEOF] if src ends before.
func Copy(dst *os.File, to int64, src *os.File, from, size int64) error {
	info, err := dst.Stat()
	if err != nil {
		return err
	}
	before, whole := blocksOf(blockSize(info), to, from, size)
	if err := copyBytes(dst, to, src, from, before); err != nil {
		return err
	}
	if err := copyBytes(dst, to+before, src, from+before, whole); err != nil {
		return err
	}
	done := before + whole
	return copyBytes(dst, to+done, src, from+done, size-done)
}

// copyBytes copies as [Copy] does, by the system's call for that as far as it goes.
func copyBytes(dst *os.File, to int64, src *os.File, from, size int64) error {
	if size == 0 {
		return nil
	}
	done, err := copyInSystem(dst, to, src, from, size)
	if err != nil || done == size {
		return err
	}
	from, to, size = from+done, to+done, size-done
	n, err := io.Copy(io.NewOffsetWriter(dst, to), struct{ io.Reader }{io.NewSectionReader(src, from, size)})
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	return err
}
