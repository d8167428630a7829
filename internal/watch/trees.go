package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// trees adds the directories of root that match w.Glob and have w.Marker and a file.
func (w Options) trees(f *found, root *os.Root, data string) error {
	names, err := f.directories(root, data, w.Glob)
	for _, name := range names {
		if tree.IsArriving(name) {
			continue
		}
		if w.Marker != "" {
			f.dirs = append(f.dirs, filepath.Join(w.Dir, name))
		}
		if rel, err := filepath.Rel(absolute(filepath.Join(w.Dir, name)), absolute(data)); err == nil &&
			filepath.IsLocal(rel) {
			f.alone[name] = "the data directory is in it, whose files would be published again"
			continue
		}
		switch c, bad := w.tree(root, name); {
		case bad == nil && c.name != "":
			f.files = append(f.files, c)
		case bad == nil, errors.Is(bad, fs.ErrNotExist), errors.Is(bad, shard.ErrChanged): // it is being written
		case errors.Is(bad, tree.ErrUnpublishable), errors.Is(bad, tree.ErrTree):
			f.alone[name] = bad.Error()
		default:
			err = errors.Join(err, bad)
		}
	}
	return err
}

// tree returns the directory name of root as a candidate, which has no name if w.Marker or all
// files are missing.
func (w Options) tree(root *os.Root, name string) (candidate, error) {
	var marker fs.FileInfo
	if w.Marker != "" {
		var err error
		if marker, err = root.Lstat(name + "/" + w.Marker); errors.Is(err, fs.ErrNotExist) {
			return candidate{}, nil
		} else if err != nil {
			return candidate{}, err
		}
	}
	t, err := w.directory(root, name)
	if err != nil {
		return candidate{}, err
	}
	newest := t.Newest()
	c := candidate{name: name, looks: likenessOfTree(t), marked: marker != nil && !marker.ModTime().Before(newest)}
	if newest.IsZero() {
		c.name = ""
	}
	return c, t.Close()
}

func likenessOfTree(t *tree.Source) likeness {
	return likeness{size: t.Size(), mtime: t.Newest().UnixNano(), tree: t.Looks()}
}

// directory opens the directory name of root, which is no link.
func (w Options) directory(root *os.Root, name string) (*tree.Source, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s: %w: it is no directory any more", name, fs.ErrNotExist)
	}
	within, err := root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	here, err := within.Stat(".")
	if err == nil && !os.SameFile(info, here) {
		err = shard.ErrChanged // a link has taken the name meanwhile
	}
	if err != nil {
		return nil, errors.Join(err, within.Close())
	}
	return tree.OpenIn(within, filepath.Join(w.Dir, name), w.Tree)
}

// openTree is [Options.open] of a directory.
func (w Options) openTree(root *os.Root, f candidate) (origin.Opened, error) {
	t, err := w.directory(root, f.name)
	if err != nil {
		return origin.Opened{}, err
	}
	if likenessOfTree(t) != f.looks {
		err = shard.ErrChanged
	} else if !f.marked {
		// A marker says that what is open, such as a log, is none of the content.
		var name string
		if name, err = t.BeingWritten(); name != "" {
			err = fmt.Errorf("%s: %w", name, errOpen)
		}
	}
	if err != nil {
		return origin.Opened{}, errors.Join(err, t.Close())
	}
	return origin.Opened{Path: filepath.Join(w.Dir, f.name), Tree: t}, nil
}
