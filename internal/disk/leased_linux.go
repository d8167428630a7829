package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// BeingWritten reports whether any process has the file f, which was opened for
// reading, open for writing. It reports false where that cannot be told, which is
// with file systems that know no leases, and of a file of another user unless this
// process has CAP_LEASE.
func BeingWritten(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	written := false
	_ = raw.Control(func(fd uintptr) {
		// A lease for reading is refused while somebody writes (fcntl(2)). It is given
		// back at once, since whoever opens the file for writing has to wait for that.
		_, err := unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_RDLCK)
		written = errors.Is(err, unix.EAGAIN)
		if err == nil {
			_, _ = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
		}
	})
	return written
}
