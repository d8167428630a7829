package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// copyInSystem copies by copy_file_range(2), which shares blocks where the file system can, and
// returns how many bytes it has copied: less than size where the system cannot, or src ends.
func copyInSystem(dst *os.File, to int64, src *os.File, from, size int64) (done int64, err error) {
	in, err := src.SyscallConn()
	if err != nil {
		return 0, err
	}
	out, err := dst.SyscallConn()
	if err != nil {
		return 0, err
	}
	for done < size {
		at, place, n := from+done, to+done, 0
		var copied, failed error
		err := in.Control(func(read uintptr) {
			failed = out.Control(func(write uintptr) {
				n, copied = unix.CopyFileRange(int(read), &at, int(write), &place, int(min(size-done, mostAtOnce)), 0)
			})
		})
		switch err := errors.Join(err, failed); {
		case err != nil:
			return done, err
		case errors.Is(copied, unix.EINTR):
			continue
		case IsFull(copied), errors.Is(copied, unix.EIO):
			return done, os.NewSyscallError("copy_file_range", copied)
		case copied != nil || n == 0: // not between these files, or not at all
			return done, nil
		}
		done += int64(n)
	}
	return done, nil
}

// mostAtOnce in bytes is what one call copies, so that a signal need not wait for long.
const mostAtOnce = 64 << 20
