//go:build linux || darwin

package disk

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// control calls f with a descriptor of the directory root. What the system does not support
// matches [errors.ErrUnsupported].
func control(root *os.Root, call string, f func(dir *os.File, fd int) error) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	raw, err := dir.SyscallConn()
	if err != nil {
		return errors.Join(err, dir.Close())
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = os.NewSyscallError(call, f(dir, int(fd))) })
	if errors.Is(failed, unix.ENOTSUP) {
		failed = errors.ErrUnsupported
	}
	return errors.Join(err, failed, dir.Close())
}

// mayMove reports whether this process may move the directory name out of root.
func mayMove(root *os.Root, name string) bool {
	return !errors.Is(control(root, "faccessat", func(_ *os.File, fd int) error {
		return unix.Faccessat(fd, name, unix.W_OK, unix.AT_EACCESS)
	}), fs.ErrPermission)
}
