// Package disk is the part of a file system beyond reading and writing: files that appear
// whole or not at all, the holes of sparse files, and free space. It refuses to know shards
// and versions.
//
// What a caller may lean on: whenever a process dies, a final name that this package has
// given to a file stands for all of its bytes, on the disk and not only in memory.
package disk

import (
	"errors"
	"fmt"
	"os"
	"path"
	"syscall"
)

// A File is written under a temporary name and gets its final one when it is
// committed. Both names are in the same root, on one file system.
type File struct {
	*os.File

	root        *os.Root
	temp, final string
	closed      bool
}

// Create opens temp in root for writing, from its first byte.
func Create(root *os.Root, temp, final string) (*File, error) {
	f, err := Resume(root, temp, final)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Resume is [Create], but keeps the bytes in temp.
func Resume(root *os.Root, temp, final string) (*File, error) {
	f, err := root.OpenFile(temp, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	return &File{File: f, root: root, temp: temp, final: final}, nil
}

// Commit writes the file through to the disk, closes it and gives it its final name, in place
// of another file of that name; on an error it removes the file. The name itself is safe
// only after [SyncDir].
func (f *File) Commit() error {
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	f.closed = true
	if err := f.File.Close(); err != nil {
		return errors.Join(err, f.root.Remove(f.temp))
	}
	if err := f.root.Rename(f.temp, f.final); err != nil {
		return errors.Join(err, f.root.Remove(f.temp))
	}
	return nil
}

// Close does nothing after Commit; without one it removes the file.
func (f *File) Close() error {
	if f.closed {
		return nil
	}
	f.closed = true
	return errors.Join(f.File.Close(), f.root.Remove(f.temp))
}

// Leave closes the file and leaves it under its temporary name, for [Resume]. It
// does nothing after Commit and Close.
func (f *File) Leave() error {
	if f.closed {
		return nil
	}
	f.closed = true
	return f.File.Close()
}

// WriteFile replaces the file final by one with data, on the disk when it returns. It uses
// temp on the way, on the same file system.
func WriteFile(root *os.Root, temp, final string, data []byte) error {
	f, err := Create(root, temp, final)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Commit(); err != nil {
		return err
	}
	return SyncDir(root, path.Dir(final))
}

// SyncDir makes the names in the directory name last.
func SyncDir(root *os.Root, name string) error {
	dir, err := root.Open(name)
	if err != nil {
		return err
	}
	if err := dir.Sync(); err != nil {
		return errors.Join(err, dir.Close())
	}
	return dir.Close()
}

// ErrNoSpace means that a file system has too little room.
var ErrNoSpace = errors.New("not enough space")

// Need returns an error matching [ErrNoSpace] if the file system of dir has less than size
// bytes left for this process. It returns nil where the file system does not report that.
func Need(dir string, size int64) error {
	left, err := Free(dir)
	if err != nil || left >= size {
		return nil //nolint:nilerr // not every file system reports it; writing will fail
	}
	return fmt.Errorf("%w in %s: %d bytes are needed and %d are free", ErrNoSpace, dir, size, left)
}

// IsFull reports whether err means that there is no room, or none for this user.
func IsFull(err error) bool {
	return errors.Is(err, ErrNoSpace) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
