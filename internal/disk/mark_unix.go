//go:build linux || darwin

package disk

import (
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
	return control(root, "fsetxattr", func(dir *os.File, fd int) error {
		return unix.Fsetxattr(fd, marking, []byte(inodeText(dir)), 0)
	})
}

// IsMarked reports whether [Mark] has marked the directory root.
func IsMarked(root *os.Root) bool {
	marked := false
	_ = control(root, "fgetxattr", func(dir *os.File, fd int) error {
		inode := inodeText(dir)
		value := make([]byte, len(inode)+1)
		n, err := unix.Fgetxattr(fd, marking, value)
		marked = err == nil && inode != "" && string(value[:n]) == inode
		return err
	})
	return marked
}

// inodeText is the number of a directory in digits, or empty if the system does not tell.
func inodeText(dir *os.File) string {
	info, err := dir.Stat()
	if err != nil {
		return ""
	}
	return strconv.FormatUint(Inode(info), 10)
}
