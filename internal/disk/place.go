package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// CheckPlace returns an error if a file that is made in root cannot be given the name, which has
// no directory in it, by a rename: because a file has the name that is not to be or cannot be
// replaced, because root does not allow that, or because the name is too long. It looks only at
// what the system tells about files, so a rename may fail all the same.
func CheckPlace(root *os.Root, name string) error {
	full := filepath.Join(root.Name(), name)
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return checkFlags(root.Name(), full, false)
	case err != nil:
		return err
	case info.IsDir():
		return errors.New("it is a directory; name a file")
	case !info.Mode().IsRegular():
		return fmt.Errorf("it is %s", kindOf(info)) // to replace a device by a file would break the machine
	}
	dir, err := root.Stat(".")
	if err != nil {
		return err
	}
	if !mayReplace(dir, info) {
		return fmt.Errorf("it belongs to another user, and %s is a directory where each user may replace only "+
			"their own files; choose another name", root.Name())
	}
	return checkFlags(root.Name(), full, true)
}

// CheckDirectory is [CheckPlace] for a directory that has the name and is to be replaced by
// another one.
func CheckDirectory(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	dir, err := root.Stat(".")
	if err != nil {
		return err
	}
	if !mayReplace(dir, info) {
		return fmt.Errorf("it belongs to another user, and %s is a directory where each user may replace only "+
			"their own files; choose another name", root.Name())
	}
	return checkFlags(root.Name(), filepath.Join(root.Name(), name), true)
}
