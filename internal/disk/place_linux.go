package disk

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// checkFlags returns an error if dir, or the file in it if it exists, is protected from a rename
// by a mount or by a flag of chattr(1).
func checkFlags(dir, file string, exists bool) error {
	const fixed = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND
	var st unix.Statx_t
	// A system that does not know an attribute does not report it.
	if err := statx(dir, &st); err == nil && st.Attributes&fixed != 0 {
		return fmt.Errorf("the directory %s is immutable or append-only; see lsattr -d and chattr", dir)
	}
	if !exists || statx(file, &st) != nil {
		return nil
	}
	switch {
	case st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0:
		return errors.New("it is a mount point, which no other file can replace; " +
			"mount its directory, and name a file in that")
	case st.Attributes&fixed != 0:
		return errors.New("it is immutable or append-only; see lsattr and chattr")
	}
	return nil
}

func statx(name string, st *unix.Statx_t) error {
	return unix.Statx(unix.AT_FDCWD, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, st)
}
