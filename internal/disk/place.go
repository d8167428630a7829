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
	if !mayMove(root, name) { // as its entry for the directory above changes
		return errors.New("its permissions do not allow to move it away; give it them (chmod u+w), or " +
			"choose another name")
	}
	return checkFlags(root.Name(), filepath.Join(root.Name(), name), true)
}

// KeepPermissions gives the directory root the permissions of another one, which it replaces, and
// its owner as far as this process may. Those in least it gets in any case. Where the file system
// refuses, it decides.
func KeepPermissions(root *os.Root, of fs.FileInfo, least fs.FileMode) {
	dir, err := root.Open(".")
	if err != nil {
		return
	}
	defer dir.Close()
	want := of.Mode() & (fs.ModePerm | fs.ModeSetgid | fs.ModeSticky)
	if !keepOwner(dir, of) {
		want &= fs.ModeSticky | 0o707 | want&0o007<<3 // the new group was among the others
	}
	_ = dir.Chmod(want | least)
}
