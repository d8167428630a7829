package follow

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/record"
)

// openTree opens the directory name, and returns nil if there is none.
func openTree(root *os.Root, name string) (*os.Root, error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return root.OpenRoot(name)
}

// verifyTree reports whether the directory at f's path is the tree f, and nothing else, and if
// so notes the times of its files. It returns the cause of ctx, or that it cannot be read now.
func (d *directory) verifyTree(ctx context.Context, f *record.File) (bool, error) {
	list, err := d.readList(*f)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	root, err := openTree(d.root, f.Path)
	if root == nil {
		return false, err
	}
	defer root.Close()
	if other, err := list.foreignIn(root); other != "" || err != nil {
		return false, err
	}
	for of := range list.tree.Files() { // before a file is read
		info, err := root.Lstat(of.Path)
		if err != nil || !of.Directory && (info.Size() != of.Size || info.Mode()&0o100 != 0 != of.Executable) {
			return false, nil //nolint:nilerr // it is missing
		}
	}
	d.logger.Info("verifying directory", "version", f.Version.String(), "path", d.full(f.Path))
	clear(list.modified)
	for i := range list.modified {
		if same, err := list.isIn(ctx, root, i); err != nil || !same {
			return false, err
		}
	}
	return true, d.writeTimes(*f, list)
}

// treeIsHere reports whether anything of the tree f is at its path. If all or a part of it is
// not, that is logged. It returns the cause of ctx, or that it cannot be read now.
func (d *directory) treeIsHere(ctx context.Context, f *record.File) (bool, error) {
	logger := d.logger.With("version", f.Version.String())
	list, err := d.readList(*f)
	unknown := errors.Is(err, fs.ErrNotExist)
	if err != nil && !unknown {
		return false, err
	}
	root, err := openTree(d.root, f.Path)
	if err != nil {
		return false, err
	}
	if root == nil || unknown {
		logger.Warn("file has gone or changed", "file", d.full(f.Path))
		return false, nil
	}
	defer root.Close()
	other, others := "", 0
	for i := range list.modified {
		same, err := list.isIn(ctx, root, i)
		if err != nil {
			return false, err
		}
		if !same {
			other, others = list.tree.File(i).Path, others+1
		}
	}
	if others > 0 {
		logger.Warn("file has gone or changed", "file", filepath.Join(d.full(f.Path), filepath.FromSlash(other)),
			"files", others, "of", list.tree.Len())
	}
	return others < list.tree.Len() || list.tree.Len() == 0, nil
}

// onlyOurs returns an error matching errForeign if the directory of the tree f has files that
// are not, or not any more, those that were delivered.
func (d *directory) onlyOurs(ctx context.Context, f record.File) error {
	list, err := d.readList(f)
	if err != nil {
		return err
	}
	root, err := openTree(d.root, f.Path)
	if err != nil {
		return err
	}
	if root == nil {
		return fmt.Errorf("%w: %s", errForeign, d.full(f.Path))
	}
	defer root.Close()
	other, err := list.foreignIn(root)
	for i := 0; i < list.tree.Len() && other == "" && err == nil; i++ {
		var same bool
		if same, err = list.isIn(ctx, root, i); !same {
			name := list.tree.File(i).Path
			if _, missing := root.Lstat(name); missing == nil {
				other = name
			}
		}
	}
	if err == nil && other != "" {
		err = fmt.Errorf("%w: %s is not of %s, which is replaced with all that is in it; move it elsewhere",
			errForeign, filepath.Join(d.full(f.Path), filepath.FromSlash(other)), f.Version)
	}
	return err
}

// noteTimes notes the times of the files of the tree f, which has come.
func (d *directory) noteTimes(f record.File) error {
	list, err := d.readList(f)
	if err != nil {
		return err
	}
	root, err := d.root.OpenRoot(f.Path)
	if err != nil {
		return err
	}
	defer root.Close()
	for i := range list.modified {
		info, err := root.Lstat(list.tree.File(i).Path)
		if err != nil {
			return err
		}
		list.modified[i] = info.ModTime().UnixNano()
	}
	return d.writeTimes(f, list)
}

// removeLeaving removes the trees that the record has as leaving. One that cannot be removed
// now stays there. It returns the cause of ctx.
func (d *directory) removeLeaving(ctx context.Context) error {
	r := &d.record
	var left []record.File
	for _, f := range r.Leaving {
		d.unmark(f)
		removed, err := d.removeTree(ctx, f)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			d.logger.Warn("old version not removed", "version", f.Version.String(), "err", err)
			left = append(left, f)
		case removed:
			d.logger.Info("old version removed", "version", f.Version.String(), "file", d.full(f.Path))
		}
	}
	r.Leaving = left
	return nil
}

// removeTree removes the files of the tree f, and its directories that are empty then, and
// reports whether that is all of it. Before the first file goes the tree loses its name; a
// directory in which files of others are left gets it back.
func (d *directory) removeTree(ctx context.Context, f record.File) (removed bool, err error) {
	list, err := d.readList(f)
	if errors.Is(err, fs.ErrNotExist) {
		return d.treeIsHere(ctx, &f) // which it says it is not
	}
	if err != nil {
		return false, err
	}
	parent, err := openTree(d.root, path.Dir(f.Path))
	if parent == nil {
		return false, err
	}
	defer parent.Close()
	base, gone := path.Base(f.Path), "."+f.Version.String()+record.GoneSuffix
	root, err := openTree(parent, gone)
	if err != nil {
		return false, err
	}
	if root == nil {
		if here, err := d.treeIsHere(ctx, &f); err != nil || !here {
			return false, err
		}
		if err := parent.Rename(base, gone); err != nil {
			return false, err
		}
		if root, err = parent.OpenRoot(gone); err != nil {
			return false, err
		}
	}
	rest, err := removeFrom(ctx, root, list)
	if err := errors.Join(err, root.Close()); err != nil {
		return false, err
	}
	if rest == "" {
		return true, errors.Join(parent.Remove(gone), disk.SyncDir(parent, "."))
	}
	if _, err := parent.Lstat(base); !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("%s has files of others, and their directory has been replaced by another one: "+
			"move them elsewhere", filepath.Join(parent.Name(), gone))
	}
	d.logger.Warn("files of others left", "version", f.Version.String(),
		"file", filepath.Join(d.full(f.Path), filepath.FromSlash(rest)))
	return false, errors.Join(parent.Rename(gone, base), disk.SyncDir(parent, "."))
}

// removeFrom removes the files of list from root, and the directories that are empty then, and
// returns the path of one that is left, or "".
func removeFrom(ctx context.Context, root *os.Root, list list) (rest string, err error) {
	for i := range list.modified {
		of := list.tree.File(i)
		if of.Directory {
			continue
		}
		same, err := list.isIn(ctx, root, i)
		if err == nil && same {
			err = root.Remove(of.Path)
		}
		if err != nil {
			return "", err
		}
	}
	// A directory comes after those within it.
	dirs := slices.SortedFunc(maps.Keys(list.directories()), func(a, b string) int { return len(b) - len(a) })
	for _, dir := range dirs {
		if info, err := root.Lstat(dir); err == nil && info.IsDir() {
			_ = root.Remove(dir) // fails unless it is empty
		}
	}
	err = disk.Walk(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil {
			rest = name
			if !entry.IsDir() {
				return fs.SkipAll
			}
		}
		return err
	})
	return rest, err
}
