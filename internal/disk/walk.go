package disk

import (
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
)

// entriesAtOnce is how many entries of a directory are in memory at once.
const entriesAtOnce = 1000

// Entries yields what is in the directory name in root, a path with slashes, in any order. An error ends it.
// It holds few entries at a time, where [fs.ReadDir] holds all: 100,000 of them take 13 MB.
func Entries(root *os.Root, name string) iter.Seq2[fs.DirEntry, error] {
	return func(yield func(fs.DirEntry, error) bool) {
		dir, err := root.Open(filepath.FromSlash(name))
		if err != nil {
			yield(nil, err)
			return
		}
		defer dir.Close()
		for err == nil {
			var entries []fs.DirEntry
			entries, err = dir.ReadDir(entriesAtOnce)
			for _, entry := range entries {
				if !yield(entry, nil) {
					return
				}
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(nil, err)
		}
	}
}

// IsEmpty reports whether nothing is in the directory root.
func IsEmpty(root *os.Root) (bool, error) {
	for _, err := range Entries(root, ".") {
		return false, err
	}
	return true, nil
}

// Walk is [fs.WalkDir] of what is in the directory name in root, without itself, in any order: what is in a
// directory comes after what is beside it. It holds few entries at a time. Where a directory cannot be read,
// visit is called with its path, no entry and the error.
func Walk(root *os.Root, name string, visit fs.WalkDirFunc) error {
	for dirs := []string{name}; len(dirs) > 0; {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		for entry, err := range Entries(root, dir) {
			below := dir
			if err == nil {
				below = path.Join(dir, entry.Name())
			}
			switch err = visit(below, entry, err); {
			case errors.Is(err, fs.SkipAll):
				return nil
			case errors.Is(err, fs.SkipDir):
			case err != nil:
				return err
			case entry != nil && entry.IsDir():
				dirs = append(dirs, below)
			}
		}
	}
	return nil
}
