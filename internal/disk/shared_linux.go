package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// Shares reports whether files in dir can share blocks.
func Shares(dir *os.Root) bool {
	src, err := unnamed(dir.Name())
	if err != nil {
		return false
	}
	defer src.Close()
	return canShare(dir.Name(), src, 0, 0)
}

// canShare reports whether a file in dir can have the blocks of src from an offset on, of size bytes.
func canShare(dir string, src *os.File, offset, size int64) bool {
	dst, err := unnamed(dir)
	if err != nil {
		return false
	}
	defer dst.Close()
	in, err := src.SyscallConn()
	if err != nil {
		return false
	}
	var refused error
	err = in.Control(func(read uintptr) {
		refused = unix.IoctlFileCloneRange(int(dst.Fd()), &unix.FileCloneRange{
			Src_fd: int64(read), Src_offset: uint64(offset), Src_length: uint64(size),
		})
	})
	return err == nil && refused == nil
}

// unnamed opens a file in dir that has no name, and is gone when it is closed.
func unnamed(dir string) (*os.File, error) {
	return os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, 0o600)
}
