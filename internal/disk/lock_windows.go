package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

// tryLock locks f. The error matches ErrLocked if the lock is taken.
func tryLock(f *os.File, shared bool) error {
	how := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if !shared {
		how |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	err = raw.Control(func(handle uintptr) {
		// A byte far beyond all content: here others cannot read locked bytes.
		beyond := &windows.Overlapped{OffsetHigh: 1 << 30}
		locked = windows.LockFileEx(windows.Handle(handle), how, 0, 1, 0, beyond)
	})
	switch {
	case err != nil:
		return err
	case errors.Is(locked, windows.ERROR_LOCK_VIOLATION), errors.Is(locked, windows.ERROR_IO_PENDING):
		return fmt.Errorf("%s: %w", f.Name(), ErrLocked)
	}
	return locked
}
