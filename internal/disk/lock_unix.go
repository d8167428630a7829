//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// flock is the system's call. Tests replace it.
var flock = unix.Flock

// tryLock locks f. The error matches ErrLocked if the lock is taken.
func tryLock(f *os.File, shared bool) error {
	how := unix.LOCK_EX | unix.LOCK_NB
	if shared {
		how = unix.LOCK_SH | unix.LOCK_NB
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	err = raw.Control(func(fd uintptr) {
		for locked = flock(int(fd), how); errors.Is(locked, unix.EINTR); {
			locked = flock(int(fd), how)
		}
	})
	switch {
	case err != nil:
		return err
	case errors.Is(locked, unix.EWOULDBLOCK):
		return fmt.Errorf("%s: %w", f.Name(), ErrLocked)
	}
	return locked
}
