//go:build linux || darwin

package disk

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// marking is the extended attribute of a directory that was marked.
const marking = "user.shardcast.inode"

// Mark marks the directory root, so that [IsMarked] knows it again, under any name. A copy of
// it, or one that is made in its place, has no such mark. The error matches
// [errors.ErrUnsupported] where the file system has no extended attributes (xattr(7)).
func Mark(root *os.Root) error {
	return withDirectory(root, func(fd int, inode string) error {
		return unix.Fsetxattr(fd, marking, []byte(inode), 0)
	})
}

// IsMarked reports whether [Mark] has marked the directory root.
func IsMarked(root *os.Root) bool {
	marked := false
	_ = withDirectory(root, func(fd int, inode string) error {
		value := make([]byte, 2*len(inode)+1)
		n, err := unix.Fgetxattr(fd, marking, value)
		marked = err == nil && string(value[:n]) == inode
		return err
	})
	return marked
}

// withDirectory calls f with the descriptor of root and its inode in digits.
func withDirectory(root *os.Root, f func(fd int, inode string) error) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	info, err := dir.Stat()
	if err != nil {
		return err
	}
	raw, err := dir.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = f(int(fd), strconv.FormatUint(Inode(info), 10)) })
	if errors.Is(failed, unix.ENOTSUP) {
		failed = errors.ErrUnsupported
	}
	return errors.Join(err, failed)
}
