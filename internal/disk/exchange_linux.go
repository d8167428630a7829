package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Exchange gives each of two names in root the file or directory of the other, in one step.
// The error matches [errors.ErrUnsupported] where the system or the file system cannot.
func Exchange(root *os.Root, a, b string) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	raw, err := dir.SyscallConn()
	if err != nil {
		return errors.Join(err, dir.Close())
	}
	var exchanged error
	err = raw.Control(func(fd uintptr) {
		exchanged = unix.Renameat2(int(fd), a, int(fd), b, unix.RENAME_EXCHANGE)
	})
	if errors.Is(exchanged, unix.EINVAL) {
		exchanged = errors.ErrUnsupported
	}
	return errors.Join(err, os.NewSyscallError("renameat2", exchanged), dir.Close())
}
