package follow

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"strconv"

	"github.com/shardcast/shardcast/internal/compare"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/record"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// list is the files of a tree that is here or arriving: those of the list that its description has, and
// when each was last written.
type list struct {
	tree *tree.Tree

	// modified are the modification times of the files that were delivered, in nanoseconds since 1970, or 0
	// where that is not known.
	modified []int64
}

// timesName is the name, in the description of a tree, of the modification times of its files: a line of
// decimal digits for each file, in the order of the list.
const timesName = "times"

// readList reads the list of the tree f. The error matches [fs.ErrNotExist] if there is none.
func (d *directory) readList(f record.File) (list, error) {
	name := path.Join(described(f), shard.FilesName)
	from, err := disk.OpenRegular(d.root, name)
	if err != nil {
		return list{}, err
	}
	defer from.Close()
	t, err := tree.Parse(from, *f.Manifest.Files)
	if err != nil {
		return list{}, fmt.Errorf("the list %s: %w", d.full(name), err)
	}
	return list{t, d.readTimes(f, t.Len())}, nil
}

// readTimes reads the modification times of count files of the tree f. Where they are not known, digests decide.
func (d *directory) readTimes(f record.File, count int) []int64 {
	modified := make([]int64, count)
	from, err := disk.OpenRegular(d.root, path.Join(described(f), timesName))
	if err != nil {
		return modified
	}
	defer from.Close()
	lines := bufio.NewScanner(from)
	for i := 0; i < count && lines.Scan(); i++ {
		if modified[i], err = strconv.ParseInt(lines.Text(), 10, 64); err != nil {
			return make([]int64, count)
		}
	}
	return modified
}

// writeTimes writes the modification times of l, of the tree f.
func (d *directory) writeTimes(f record.File, l list) error {
	return d.writeDescription(f, timesName, func(to io.Writer) error {
		var line []byte
		for _, modified := range l.modified {
			line = append(strconv.AppendInt(line[:0], modified, 10), '\n')
			if _, err := to.Write(line); err != nil {
				return err
			}
		}
		return nil
	})
}

// writeDescription writes the file name of the description of f.
func (d *directory) writeDescription(f record.File, name string, write func(io.Writer) error) error {
	name = path.Join(described(f), name)
	to, err := disk.Create(d.root, name+".tmp", name, 0o600)
	if err != nil {
		return err
	}
	buffer := bufio.NewWriter(to)
	if err = write(buffer); err == nil {
		err = buffer.Flush()
	}
	if err == nil {
		err = to.Commit()
	}
	if err != nil {
		return errors.Join(err, to.Close())
	}
	return disk.SyncDir(d.root, described(f))
}

// isIn reports whether the file in root is file i: by its size and time, or else its digest. It
// returns the cause of ctx, or that the file cannot be read now.
func (l list) isIn(ctx context.Context, root *os.Root, i int) (bool, error) {
	f := l.tree.File(i)
	info, err := root.Lstat(f.Path)
	if err == nil && f.Directory {
		return info.IsDir(), nil
	}
	if err == nil && info.Mode().IsRegular() && info.Size() == f.Size && info.ModTime().UnixNano() == l.modified[i] {
		return true, nil
	}
	same, err := compare.File{
		Dir: root, Name: f.Path, Manifest: shard.Manifest{Size: f.Size, Digest: f.Digest},
		Logger: slog.New(slog.DiscardHandler),
	}.Run(ctx)
	if err != nil || same == nil {
		return false, err
	}
	l.modified[i] = same.Info.ModTime().UnixNano()
	return true, nil
}

// foreignIn returns the path of a file or directory in root that is not in the list, or "".
func (l list) foreignIn(root *os.Root) (string, error) {
	parents := l.directories()
	found := ""
	err := disk.Walk(root, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || parents[name] {
			return err
		}
		if _, ok := l.tree.Find(name); ok {
			return nil
		}
		found = name
		return fs.SkipAll
	})
	return found, err
}

// directories are those that the tree has.
func (l list) directories() map[string]bool {
	all := make(map[string]bool)
	for f := range l.tree.Files() {
		dir := path.Dir(f.Path)
		if f.Directory {
			dir = f.Path
		}
		for ; dir != "." && !all[dir]; dir = path.Dir(dir) {
			all[dir] = true
		}
	}
	return all
}
