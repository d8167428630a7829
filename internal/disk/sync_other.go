//go:build !linux

package disk

import (
	"errors"
	"io/fs"
	"os"
)

// SyncTree makes all files and names below root last.
func SyncTree(root *os.Root) error {
	err := Walk(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return SyncDir(root, name)
		}
		f, err := root.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
	return errors.Join(err, SyncDir(root, "."))
}
