package client

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shardcast/shardcast/internal/disk"
)

// maxLinks is the number of symbolic links that are followed from a path, as on Linux.
const maxLinks = 40

var errDirectory = errors.New("it is a directory; name a file")

// openPlace returns the directory, open, and the name of the file that path leads to. If path is
// a symbolic link, that is the link's target, so that the link stays. It makes the missing
// directories of path, but none of a target.
func openPlace(path string) (*os.Root, string, error) {
	for links := 0; links <= maxLinks; links++ {
		dir, base := split(path)
		if base == "" || base == "." || base == ".." {
			return nil, "", errDirectory
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			if links == 0 {
				if err := os.MkdirAll(dir, 0o777); err != nil {
					return nil, "", err
				}
			}
			root, err := os.OpenRoot(dir)
			return root, base, err
		}
		// Such as /dev/stdout, which leads to something without a name.
		if to, err := os.Stat(path); err == nil && !to.Mode().IsRegular() && !to.IsDir() {
			return nil, "", errors.New("it is not a regular file; - stands for stdout")
		}
		if path, err = target(dir, path, info); err != nil {
			return nil, "", err
		}
	}
	return nil, "", errors.New("its symbolic links lead round in a circle")
}

// split is [filepath.Split], with a directory in any case, and without a slash at its end.
func split(path string) (dir, base string) {
	dir, base = filepath.Split(path)
	for len(dir) > len(filepath.VolumeName(dir))+1 && os.IsPathSeparator(dir[len(dir)-1]) {
		dir = dir[:len(dir)-1]
	}
	if dir == "" {
		dir = "."
	}
	return dir, base
}

// target is the path that the symbolic link path, in dir, leads to.
func target(dir, path string, link fs.FileInfo) (string, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(real)
	if err != nil {
		return "", err
	}
	if !disk.IsTrusted(info, link) {
		// As Linux has it with fs.protected_symlinks.
		return "", errors.New("it is another user's symbolic link, in a directory that all may write to")
	}
	to, err := os.Readlink(path)
	if err != nil || filepath.IsAbs(to) {
		return to, err
	}
	return real + string(filepath.Separator) + to, nil // not cleaned: it may lead through links
}
