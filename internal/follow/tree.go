package follow

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

const (
	// listSuffix ends the names, in the hidden directory, of the lists of trees.
	listSuffix = ".files"

	listTemp = hidden + "/files.tmp"

	// goneSuffix ends the hidden name that a tree has, in its directory, while it is removed.
	goneSuffix = ".shardcast-gone"
)

// listed is a file, or an empty directory, of a tree that is here or arriving. The list of
// them is a file beside the record, with a line of JSON for each, in the order of their paths.
type listed struct {
	Path       string       `json:"path"`
	Directory  bool         `json:"directory,omitempty"`
	Executable bool         `json:"executable,omitempty"`
	Size       int64        `json:"size"`
	Digest     shard.Digest `json:"digest,omitzero"`

	// Modified is the modification time of the file that was delivered, in nanoseconds since
	// 1970, or 0 until then.
	Modified int64 `json:"modified,omitempty"`
}

// listOf lists the files of t.
func listOf(t *tree.Tree) []listed {
	list := make([]listed, t.Len())
	for i := range list {
		f := t.File(i)
		list[i] = listed{
			Path: f.Path, Directory: f.Directory, Executable: f.Executable, Size: f.Size, Digest: f.Digest,
		}
	}
	return list
}

// isTree reports whether f is a directory.
func (f file) isTree() bool { return f.Manifest.Files != nil }

// listName is the name of the list of the tree f.
func (f file) listName() string {
	return path.Join(hidden, f.Version.String()+"-"+f.Manifest.Files.Digest.String()[:16]+listSuffix)
}

// writeList writes the list of the tree f.
func (d *directory) writeList(f file, list []listed) error {
	to, err := disk.Create(d.root, listTemp, f.listName(), 0o600)
	if err != nil {
		return err
	}
	buffer := bufio.NewWriter(to)
	lines := json.NewEncoder(buffer)
	for _, l := range list {
		if err = lines.Encode(l); err != nil {
			break
		}
	}
	if err == nil {
		err = buffer.Flush()
	}
	if err == nil {
		err = to.Commit()
	}
	if err != nil {
		return errors.Join(err, to.Close())
	}
	return disk.SyncDir(d.root, hidden)
}

// readList reads the list of the tree f. The error matches [fs.ErrNotExist] if there is none.
func (d *directory) readList(f file) ([]listed, error) {
	from, err := disk.OpenRegular(d.root, f.listName())
	if err != nil {
		return nil, err
	}
	defer from.Close()
	list, err := parseList(bufio.NewReader(from))
	if err != nil {
		return nil, fmt.Errorf("the list %s: line %d: %w", d.full(f.listName()), len(list)+1, err)
	}
	return list, nil
}

// parseList parses a list, of which all paths are those of files below the tree's directory,
// once each and in order. With an error it returns the lines before.
func parseList(from io.Reader) ([]listed, error) {
	var list []listed
	lines := json.NewDecoder(from)
	for {
		var l listed
		err := lines.Decode(&l)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err == nil {
			err = tree.CheckPath(l.Path)
		}
		switch {
		case err != nil:
			return list, err
		case len(list) == shard.MaxFiles:
			return list, fmt.Errorf("more than %d files", shard.MaxFiles)
		case len(list) > 0 && l.Path <= list[len(list)-1].Path:
			return list, fmt.Errorf("%q is not in order", l.Path)
		}
		list = append(list, l)
	}
}

// dropLists removes the lists that belong to no tree any more.
func (d *directory) dropLists() {
	used := make(map[string]bool)
	for _, f := range d.record.files() {
		if f.isTree() {
			used[f.listName()] = true
		}
	}
	entries, err := fs.ReadDir(d.root.FS(), hidden)
	if err != nil {
		return // they are small, and go next time
	}
	for _, entry := range entries {
		if name := path.Join(hidden, entry.Name()); path.Ext(name) == listSuffix && !used[name] {
			_ = d.root.Remove(name)
		}
	}
}

// isIn reports whether the file in root is l: by its size and time, or else its digest. It
// returns the cause of ctx, or that the file cannot be read now.
func (l *listed) isIn(ctx context.Context, root *os.Root) (bool, error) {
	info, err := root.Lstat(l.Path)
	if err == nil && l.Directory {
		return info.IsDir(), nil
	}
	if err == nil && info.Mode().IsRegular() && info.Size() == l.Size && info.ModTime().UnixNano() == l.Modified {
		return true, nil
	}
	same, err := client.Comparison{
		Dir: root, Name: l.Path, Manifest: shard.Manifest{Size: l.Size, Digest: l.Digest},
		Logger: slog.New(slog.DiscardHandler),
	}.Run(ctx)
	if err != nil || same == nil {
		return false, err
	}
	l.Modified = same.Info.ModTime().UnixNano()
	return true, nil
}

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
func (d *directory) verifyTree(ctx context.Context, f *file) (bool, error) {
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
	if other, err := foreignIn(root, list); other != "" || err != nil {
		return false, err
	}
	for _, l := range list { // before a file is read
		info, err := root.Lstat(l.Path)
		if err != nil || !l.Directory && (info.Size() != l.Size || info.Mode()&0o100 != 0 != l.Executable) {
			return false, nil //nolint:nilerr // it is missing
		}
	}
	d.logger.Info("verifying directory", "version", f.Version.String(), "path", d.full(f.Path))
	for i := range list {
		list[i].Modified = 0
		if same, err := list[i].isIn(ctx, root); err != nil || !same {
			return false, err
		}
	}
	return true, d.writeList(*f, list)
}

// foreignIn returns the path of a file or directory in root that is not in list, or "".
func foreignIn(root *os.Root, list []listed) (string, error) {
	parents := directoriesOf(list)
	found := ""
	err := disk.Walk(root, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || parents[name] {
			return err
		}
		if _, ok := slices.BinarySearchFunc(list, name, func(l listed, name string) int {
			return cmp.Compare(l.Path, name)
		}); ok {
			return nil
		}
		found = name
		return fs.SkipAll
	})
	return found, err
}

// directoriesOf are the directories that the tree of list has.
func directoriesOf(list []listed) map[string]bool {
	all := make(map[string]bool)
	for _, l := range list {
		dir := path.Dir(l.Path)
		if l.Directory {
			dir = l.Path
		}
		for ; dir != "." && !all[dir]; dir = path.Dir(dir) {
			all[dir] = true
		}
	}
	return all
}

// treeIsHere reports whether anything of the tree f is at its path. If all or a part of it is
// not, that is logged. It returns the cause of ctx, or that it cannot be read now.
func (d *directory) treeIsHere(ctx context.Context, f *file) (bool, error) {
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
	for i := range list {
		same, err := list[i].isIn(ctx, root)
		if err != nil {
			return false, err
		}
		if !same {
			other, others = list[i].Path, others+1
		}
	}
	if others > 0 {
		logger.Warn("file has gone or changed", "file", filepath.Join(d.full(f.Path), filepath.FromSlash(other)),
			"files", others, "of", len(list))
	}
	return others < len(list) || len(list) == 0, nil
}

// onlyOurs returns an error matching errForeign if the directory of the tree f has files that
// are not, or not any more, those that were delivered.
func (d *directory) onlyOurs(ctx context.Context, f file) error {
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
	other, err := foreignIn(root, list)
	for i := 0; i < len(list) && other == "" && err == nil; i++ {
		var same bool
		if same, err = list[i].isIn(ctx, root); !same {
			if _, missing := root.Lstat(list[i].Path); missing == nil {
				other = list[i].Path
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
func (d *directory) noteTimes(f file) error {
	list, err := d.readList(f)
	if err != nil {
		return err
	}
	root, err := d.root.OpenRoot(f.Path)
	if err != nil {
		return err
	}
	defer root.Close()
	for i := range list {
		info, err := root.Lstat(list[i].Path)
		if err != nil {
			return err
		}
		list[i].Modified = info.ModTime().UnixNano()
	}
	return d.writeList(f, list)
}

// removeLeaving removes the trees that the record has as leaving. One that cannot be removed
// now stays there. It returns the cause of ctx.
func (d *directory) removeLeaving(ctx context.Context) error {
	r := &d.record
	var left []file
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
func (d *directory) removeTree(ctx context.Context, f file) (removed bool, err error) {
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
	base, gone := path.Base(f.Path), "."+f.Version.String()+goneSuffix
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
func removeFrom(ctx context.Context, root *os.Root, list []listed) (rest string, err error) {
	for i := range list {
		if list[i].Directory {
			continue
		}
		same, err := list[i].isIn(ctx, root)
		if err == nil && same {
			err = root.Remove(list[i].Path)
		}
		if err != nil {
			return "", err
		}
	}
	// A directory comes after those within it.
	dirs := slices.SortedFunc(maps.Keys(directoriesOf(list)), func(a, b string) int { return len(b) - len(a) })
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
