package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// SyncTree makes all files and names below root last, by one request for the whole file
// system. See syncfs(2), which reports errors of writing since Linux 5.8.
func SyncTree(root *os.Root) error {
	return control(root, "syncfs", func(_ *os.File, fd int) error { return unix.Syncfs(fd) })
}
