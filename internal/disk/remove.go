package disk

import (
	"errors"
	"io/fs"
	"os"
)

// RemoveAll is [os.Root.RemoveAll], also for directories that their owner may not write to: a
// directory that was delivered goes as a whole, whatever its permissions are by then.
func RemoveAll(root *os.Root, name string) error {
	err := root.RemoveAll(name)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	for dirs := []string{name}; len(dirs) > 0; {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		if info, err := root.Lstat(dir); err != nil || !info.IsDir() || root.Chmod(dir, 0o700) != nil {
			continue
		}
		for entry, err := range Entries(root, dir) {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, dir+"/"+entry.Name())
			}
		}
	}
	return root.RemoveAll(name)
}
