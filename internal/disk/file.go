// Package disk is the part of a file system beyond reading and writing: files that appear
// whole or not at all, files and locks that are ours, the holes of sparse files, and free space.
// It refuses to know shards and versions.
//
// What a caller may lean on: whenever a process dies, a final name that this package has
// given to a file stands for all of its bytes, on the disk and not only in memory. And whatever
// another user has put in the place of a file that this package opens for writing, no byte goes
// to another file, and no byte comes from a file that this user could change meanwhile.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"syscall"
)

// A File is written under a temporary name and gets its final one when it is
// committed. Both names are in the same root, on one file system.
type File struct {
	*os.File

	root        *os.Root
	temp, final string
	perm        fs.FileMode // less the umask, if no file is replaced
	ended       bool
}

// Create makes the file temp in root for writing, in place of one that an earlier process has
// left, to be committed as final with the permissions perm less the umask. Only the writers of
// the directory of temp are to know it: a file of any kind that has this name goes.
func Create(root *os.Root, temp, final string, perm fs.FileMode) (*File, error) {
	create := func() (*os.File, error) { return root.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm) }
	f, err := create()
	if errors.Is(err, fs.ErrExist) {
		if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		f, err = create()
	}
	if err != nil {
		return nil, err
	}
	return &File{File: f, root: root, temp: temp, final: final, perm: perm}, nil
}

// Resume opens the file temp in root with its bytes, or makes it, to be committed as final with
// the permissions 0666 less the umask. Until then the file is private, and locked: see [Lock] for
// the wait and the errors.
func Resume(ctx context.Context, root *os.Root, temp, final string) (*File, error) {
	f, err := Lock(ctx, root, temp)
	if err != nil {
		return nil, err
	}
	return &File{File: f, root: root, temp: temp, final: final, perm: 0o666}, nil
}

// Flush has the system begin to write the file to the disk, so that Commit need not wait for all of
// it. Where the system has no such request, Flush does nothing.
func (f *File) Flush() error {
	_ = Flush(f.File, 0, 0) // that is, to its end
	return nil
}

// Commit writes the file through to the disk and gives it its final name, in place of another
// file of that name, whose permissions it takes, and whose owner as far as this process may. Then
// it closes the file. After an error the file is as before, for another Commit, [File.Leave] or
// [File.Close]. The name itself is safe only after [SyncDir].
func (f *File) Commit() error {
	f.adjust()
	if err := f.Sync(); err != nil {
		return err
	}
	// The lock, if any, ends after that: a lock on the temporary name protects no other file.
	if err := f.root.Rename(f.temp, f.final); err != nil {
		return err
	}
	f.ended = true
	_ = f.File.Close() // all of it is on the disk
	return nil
}

// adjust gives the file its final permissions. Where the file system refuses, it decides.
func (f *File) adjust() {
	want := f.perm &^ umask()
	if old, err := f.root.Lstat(f.final); err == nil && old.Mode().IsRegular() {
		want = old.Mode().Perm()
		if !keepOwner(f.File, old) {
			want &= 0o707 | want&0o007<<3 // the new group was among the others
		}
	}
	if now, err := f.Stat(); err == nil && now.Mode().Perm() != want {
		_ = f.Chmod(want)
	}
}

// Close does nothing after Commit; without one it removes the file.
func (f *File) Close() error {
	if f.ended {
		return nil
	}
	f.ended = true
	// Removed first, while it is locked: afterwards another process may use the name.
	return errors.Join(f.root.Remove(f.temp), f.File.Close())
}

// Leave closes the file and leaves it under its temporary name, for [Resume]. It
// does nothing after Commit and Close.
func (f *File) Leave() error {
	if f.ended {
		return nil
	}
	f.ended = true
	return f.File.Close()
}

// WriteFile replaces the file final by one with data, on the disk when it returns, see [Create].
// It uses temp on the way, on the same file system.
func WriteFile(root *os.Root, temp, final string, data []byte, perm fs.FileMode) error {
	f, err := Create(root, temp, final, perm)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Commit(); err != nil {
		return errors.Join(err, f.Close())
	}
	return SyncDir(root, path.Dir(final))
}

// syncDir is the system's call. Tests replace it.
var syncDir = (*os.File).Sync

// SyncDir makes the names in the directory name last. Where the file system cannot do that for a
// directory, as CIFS and some of FUSE, it does nothing.
func SyncDir(root *os.Root, name string) error {
	dir, err := root.Open(name)
	if err != nil {
		return err
	}
	if err := syncDir(dir); err != nil && !cannotSync(err) {
		return errors.Join(err, dir.Close())
	}
	return dir.Close()
}

// cannotSync reports whether err means that a file system does not sync directories, in contrast
// to one that has failed to.
func cannotSync(err error) bool {
	for _, no := range []error{syscall.EINVAL, syscall.ENOTSUP, syscall.EOPNOTSUPP, syscall.ENOSYS} {
		if errors.Is(err, no) {
			return true
		}
	}
	return runtime.GOOS == "windows"
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

// AllocatedBelow returns the disk space of the files below root, in bytes, as far as they can
// be seen.
func AllocatedBelow(root *os.Root) (size int64) {
	_ = Walk(root, ".", func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil //nolint:nilerr // it counts as nothing
		}
		if info, err := entry.Info(); err == nil {
			size += Allocated(info)
		}
		return nil
	})
	return size
}
