package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// ErrForeign means that a name of ours is taken by a file that is not safe to use: by writing to
// it this process might change a file elsewhere, or another user might change it afterwards.
var ErrForeign = errors.New("not safe to use")

// OpenOwn opens the file name in root for reading and writing. A missing file is made, with the
// permissions perm less the umask. It follows no link in the last element of name, and does not
// truncate the file.
//
// A file that is there is opened only if it is a regular file with one hard link, belongs to the
// user of this process or to the owner of its directory, and can be written to by no other user.
// In a directory without the sticky bit that others may write to, they could exchange any file, so
// there neither its owner nor their permissions matter. Otherwise the error matches [ErrForeign], and
// names the file and the remedy.
func OpenOwn(root *os.Root, name string, perm fs.FileMode) (*os.File, error) {
	for {
		f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
		f, err = openExisting(root, name, os.O_RDWR)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err == nil {
			err = checkOwn(root, name, info)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}
}

// OpenRegular opens the file name in root for reading, if it is a regular file. It follows no
// link in the last element of name, and opens no pipe and no device. Errors match [ErrForeign] or
// [fs.ErrNotExist], or are those of the file system.
func OpenRegular(root *os.Root, name string) (*os.File, error) {
	return openExisting(root, name, os.O_RDONLY)
}

// mostExchanges is how often in a row another file may take a name while it is opened.
const mostExchanges = 100

// openExisting opens a regular file, and nothing else.
func openExisting(root *os.Root, name string, flag int) (f *os.File, err error) {
	for range mostExchanges {
		if f, err = openNamed(root, name, flag); !errors.Is(err, errExchanged) {
			break
		}
	}
	return f, err
}

// errExchanged means that a name stands for another file than a moment before: a writer has
// replaced it by rename, or it may be a link now.
var errExchanged = errors.New("another file took its name meanwhile")

func openNamed(root *os.Root, name string, flag int) (*os.File, error) {
	named, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !named.Mode().IsRegular() {
		return nil, foreign(root, name, "it is "+kindOf(named))
	}
	f, err := root.OpenFile(name, flag, 0)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("open %s: %w; see which user made it, and remove it or give it to this one with chown",
			full(root, name), err)
	}
	if err != nil {
		return nil, err
	}
	opened, err := f.Stat()
	if err == nil && !os.SameFile(named, opened) {
		err = fmt.Errorf("%w: %w", foreign(root, name, "it keeps changing"), errExchanged)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// MakePrivate makes the directory name in root, for the user of this process alone. One that is
// there must be a directory, not a link, with the owner and the permissions that [OpenOwn]
// demands of a file; otherwise the error matches [ErrForeign].
func MakePrivate(root *os.Root, name string) error {
	err := root.Mkdir(name, 0o700)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return foreign(root, name, "it is "+kindOf(info))
	}
	return checkAccess(root, name, info)
}

// checkOwn returns an error matching ErrForeign unless OpenOwn may open the regular file info.
func checkOwn(root *os.Root, name string, info fs.FileInfo) error {
	if n := Links(info); n > 1 {
		return foreign(root, name, fmt.Sprintf("it has %d hard links", n))
	}
	return checkAccess(root, name, info)
}

// checkAccess checks the owner and the permissions of what has the name.
func checkAccess(root *os.Root, name string, info fs.FileInfo) error {
	dir, err := root.Stat(path.Dir(filepath.ToSlash(name)))
	if err != nil {
		return err
	}
	if !IsTrusted(dir, info) {
		return fmt.Errorf("%s is %w: it belongs to another user; give it to this one with chown -R if it is right, "+
			"or choose another directory", full(root, name), ErrForeign)
	}
	if others := info.Mode().Perm() & writableByOthers &^ mayExchange(dir); others != 0 {
		return foreign(root, name, fmt.Sprintf("others may write to it (mode %04o)", info.Mode().Perm()))
	}
	return nil
}

const writableByOthers = 0o022

// mayExchange are the bits of the others that may give another file any name in the directory.
func mayExchange(dir fs.FileInfo) fs.FileMode {
	if dir.Mode()&fs.ModeSticky != 0 {
		return 0
	}
	return dir.Mode().Perm() & writableByOthers
}

// IsTrusted reports whether the link, file or directory info in the directory dir can only have
// been put there by the user of this process or the owner of dir, or by a user that could replace
// everything there. It is false for another user's link in /tmp.
func IsTrusted(dir, info fs.FileInfo) bool {
	return isOurs(info) || sameOwner(info, dir) || mayExchange(dir) != 0
}

// kindOf names the type of info in a sentence.
func kindOf(info fs.FileInfo) string {
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return "a file"
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	default:
		return "not a regular file"
	}
}

func foreign(root *os.Root, name, why string) error {
	return fmt.Errorf("%s is %w: %s; see that it is right and yours, or remove it, or choose another directory",
		full(root, name), ErrForeign, why)
}

// full is the path of a name in root for people.
func full(root *os.Root, name string) string {
	return filepath.Join(root.Name(), filepath.FromSlash(name))
}
