package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Exchange gives each of two names in root the file or directory of the other, in one step.
// The error matches [errors.ErrUnsupported] where the system or the file system cannot.
func Exchange(root *os.Root, a, b string) error {
	return control(root, "renameat2", func(_ *os.File, fd int) error {
		err := unix.Renameat2(fd, a, fd, b, unix.RENAME_EXCHANGE)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
			return unix.ENOTSUP
		}
		return err
	})
}
