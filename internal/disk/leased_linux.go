package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// BeingWritten reports whether any process has the file f, which was opened for reading, open
// for writing. It reports false on file systems without leases, and for a file of another
// user unless this process has CAP_LEASE.
func BeingWritten(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	written := false
	_ = raw.Control(func(fd uintptr) {
		// The system refuses a lease for reading while a process writes (fcntl(2)). The lease
		// ends at once, since a process that opens the file for writing has to wait for that.
		_, err := unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_RDLCK)
		written = errors.Is(err, unix.EAGAIN)
		if err == nil {
			_, _ = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
		}
	})
	return written
}
