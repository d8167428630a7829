package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// SyncTree makes all files and names below root last, by one request for the whole file
// system. See syncfs(2), which reports errors of writing since Linux 5.8.
func SyncTree(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	raw, err := dir.SyscallConn()
	if err != nil {
		return errors.Join(err, dir.Close())
	}
	var synced error
	err = raw.Control(func(fd uintptr) { synced = os.NewSyscallError("syncfs", unix.Syncfs(int(fd))) })
	return errors.Join(err, synced, dir.Close())
}
