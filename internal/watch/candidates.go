package watch

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/shard"
)

// likeness distinguishes a file or directory from another one without reading it, whatever its
// name.
type likeness struct {
	size  int64        // bytes; of a directory its stream's
	mtime int64        // nanoseconds since 1970; of a directory its newest file's
	inode uint64       // zero where there is none, and for a directory
	tree  shard.Digest // of a directory, see [tree.Source.Looks]
}

func likenessOf(info fs.FileInfo) likeness {
	return likeness{size: info.Size(), mtime: info.ModTime().UnixNano(), inode: disk.Inode(info)}
}

// candidate is a file in a watched directory that may be broadcast, or a directory.
type candidate struct {
	name   string // with slashes, from the watched directory
	looks  likeness
	marked bool // the marker was written after the file, or all files of the directory
}

// found is what one look at a watched directory has found.
type found struct {
	files []candidate       // in the order of their broadcast
	dirs  []string          // that they are in or may appear in
	alone map[string]string // by name, why a file or directory that matches is left alone
	torn  string            // a directory in which several names match, or empty
}

// look looks at the files of w in the directory root, which is w.Dir. It omits the directory
// data, and with a marker the files without one beside them. It follows no links. An error is
// about a part of the files; the others are returned all the same.
func (w Options) look(root *os.Root, data string) (f found, err error) {
	f.alone = make(map[string]string)
	pattern, glob, below := strings.Cut(w.Glob, "/")
	f.dirs = append(f.dirs, w.Dir)
	switch {
	case w.Trees:
		err = w.trees(&f, root, data)
	case below:
		err = w.below(&f, root, data, pattern, glob)
	default:
		err = w.within(&f, root, ".", pattern)
	}
	slices.SortFunc(f.files, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.looks.mtime, b.looks.mtime), cmp.Compare(a.name, b.name))
	})
	return f, err
}

// aLink is why a link is left alone.
const aLink = "it is a link, and may lead anywhere"

// directories returns the names of the directories in root that match pattern, without the
// directory data.
func (f *found) directories(root *os.Root, data, pattern string) (names []string, err error) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	private, _ := os.Stat(data)
	for _, e := range entries {
		if !matches(pattern, e.Name()) {
			continue
		}
		if e.Type()&fs.ModeSymlink != 0 {
			f.alone[e.Name()] = aLink
		}
		if !e.IsDir() {
			continue
		}
		// Published files are not to be published again.
		if info, err := e.Info(); err != nil || private != nil && os.SameFile(info, private) {
			continue
		}
		names = append(names, e.Name())
	}
	return names, nil
}

// below adds the files that match glob in the directories that match pattern.
func (w Options) below(f *found, root *os.Root, data, pattern, glob string) error {
	names, err := f.directories(root, data, pattern)
	for _, name := range names {
		if bad := w.within(f, root, name, glob); bad != nil && !errors.Is(bad, fs.ErrNotExist) {
			err = errors.Join(err, bad)
		}
		f.dirs = append(f.dirs, filepath.Join(w.Dir, name))
	}
	return err
}

// within adds the files that match glob in the directory dir of root.
func (w Options) within(f *found, root *os.Root, dir, glob string) error {
	entries, err := fs.ReadDir(root.FS(), dir)
	var marker fs.FileInfo
	if err == nil && w.Marker != "" {
		marker, err = root.Lstat(path.Join(dir, w.Marker))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	if err != nil {
		return err
	}
	matching := 0
	for _, e := range entries {
		if !matches(glob, e.Name()) || e.Name() == w.Marker {
			continue
		}
		name := path.Join(dir, e.Name())
		if matching++; matching > 1 && dir != "." {
			f.torn = dir
		}
		if e.Type()&fs.ModeSymlink != 0 {
			f.alone[name] = aLink
		}
		if !e.Type().IsRegular() {
			continue
		}
		if err := f.add(name, e, marker); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// add adds the regular file e of that name, beside a marker or without one.
func (f *found) add(name string, e fs.DirEntry, marker fs.FileInfo) error {
	info, err := e.Info()
	if err != nil {
		return err
	}
	marked := marker != nil && !marker.ModTime().Before(info.ModTime())
	if info.Size() == 0 && !marked {
		f.alone[name] = "it is empty; a marker beside it (--watch-marker) would say that it is complete"
		return nil
	}
	f.files = append(f.files, candidate{name: name, looks: likenessOf(info), marked: marked})
	return nil
}

// open opens the file or directory f of root, without following a link in its name, if it looks
// as it did then. Errors match [fs.ErrNotExist] and [shard.ErrChanged] otherwise, and [errOpen]
// if it is open for writing.
func (w Options) open(root *os.Root, f candidate) (origin.Opened, error) {
	if w.Trees {
		return w.openTree(root, f)
	}
	for name := f.name; name != "."; name = path.Dir(name) {
		info, err := root.Lstat(name)
		if err != nil {
			return origin.Opened{}, err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			return origin.Opened{}, fmt.Errorf("%s: %w: %s", name, fs.ErrNotExist, aLink)
		}
	}
	// To open a pipe that has just taken the name must not take for ever.
	file, err := root.OpenFile(f.name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return origin.Opened{}, err
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = errors.New("it is not a regular file any more")
	case likenessOf(info) != f.looks:
		err = shard.ErrChanged
	case disk.BeingWritten(file):
		err = errOpen
	}
	if err != nil {
		return origin.Opened{}, errors.Join(err, file.Close())
	}
	return origin.Opened{Path: file.Name(), File: file, Info: info}, nil
}

// matches reports whether name is not hidden, and matches glob.
func matches(glob, name string) bool {
	ok, err := path.Match(glob, name)
	return ok && err == nil && !strings.HasPrefix(name, ".")
}
