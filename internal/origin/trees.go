package origin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// checkTree returns an error if w.Tree contradicts itself, or links may lead anywhere.
func (w Watch) checkTree() error {
	if err := w.Lineage.Check(w.Labels); err != nil {
		return err
	}
	chosen := w.Tree.Include != nil || w.Tree.Exclude != nil
	switch {
	case !w.Trees && w.Lineage.From != "":
		return errors.New("Lineage: it is read from directories, and files are published; want Depth tree")
	case !w.Trees && (chosen || w.Tree.FollowLinks || w.Tree.LinksBelow != ""):
		return errors.New("Depth: patterns and links are those of directories, and files are published; want tree")
	case w.Tree.FollowLinks != (w.Tree.LinksBelow != ""):
		return errors.New("LinksBelow: links are followed only together with the directory below which " +
			"all have to lead; want both or none")
	}
	if err := w.Tree.CheckPatterns(); err != nil {
		return fmt.Errorf("Include, Exclude: %w", err)
	}
	if w.Tree.LinksBelow == "" {
		return nil
	}
	if info, err := os.Stat(w.Tree.LinksBelow); err != nil {
		return fmt.Errorf("LinksBelow: %w", err)
	} else if !info.IsDir() {
		return fmt.Errorf("LinksBelow: %s is not a directory", w.Tree.LinksBelow)
	}
	return nil
}

// trees adds the directories of root that match w.Glob and have w.Marker and a file.
func (w Watch) trees(f *found, root *os.Root, data string) error {
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
func (w Watch) tree(root *os.Root, name string) (candidate, error) {
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
func (w Watch) directory(root *os.Root, name string) (*tree.Source, error) {
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

// openTree is [Watch.open] of a directory.
func (w Watch) openTree(root *os.Root, f candidate) (*source, error) {
	t, err := w.directory(root, f.name)
	if err != nil {
		return nil, err
	}
	s := &source{path: filepath.Join(w.Dir, f.name), name: nameOf(f.name)}
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
		return nil, errors.Join(err, t.Close())
	}
	return s, s.read(t)
}
