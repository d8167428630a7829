// Package compare says whether a file or directory is what a version has, and if not, in what it differs. It reads
// what is on the disk, down to the last byte where size and kind agree, and writes nothing. It knows of no
// server: the caller has the manifest, and of a tree the list of files.
package compare

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// A Difference is a file that is not as a version has it.
type Difference struct {
	// Path is the file's in the directory that was compared, or empty where a file was.
	Path string

	// What says in words what differs.
	What string
}

// Stream compares the file full with the bytes of m, of which a tree's are a tar. It returns one difference without
// a path, or none. The error says why the file cannot be read now, or is the cause of ctx's end.
func Stream(ctx context.Context, full string, m shard.Manifest, logger *slog.Logger) ([]Difference, error) {
	dir, err := os.OpenRoot(filepath.Dir(full))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	f, err := dir.Open(filepath.Base(full)) // whether it can be read at all
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && m.Size >= 0 && info.Size() != m.Size {
		return []Difference{{What: fmt.Sprintf("its size is %d instead of %d bytes", info.Size(), m.Size)}}, nil
	}
	equal, err := File{Dir: dir, Name: filepath.Base(full), Manifest: m, Logger: logger}.Run(ctx)
	if err != nil || equal != nil {
		return nil, err
	}
	return []Difference{{What: "it has other bytes"}}, nil
}

// Tree compares the directory full with t, several files at the same time, and returns the differences in the order
// of their paths. The error says why a file cannot be read now, or is the cause of ctx's end.
func Tree(ctx context.Context, full string, t *tree.Tree) (differences []Difference, err error) {
	dir, err := os.OpenRoot(full)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var next atomic.Int64
	var mu sync.Mutex // guards differences
	group, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			buf := make([]byte, readBuffer)
			for i := next.Add(1) - 1; i < int64(t.Len()); i = next.Add(1) - 1 {
				f := t.File(int(i))
				what, err := differs(ctx, dir, f, buf)
				if err != nil {
					return err
				}
				if what != "" {
					mu.Lock()
					differences = append(differences, Difference{f.Path, what})
					mu.Unlock()
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	more, err := others(dir, t)
	differences = append(differences, more...)
	slices.SortFunc(differences, func(a, b Difference) int { return cmp.Compare(a.Path, b.Path) })
	return differences, err
}

// readBuffer in bytes is read at a time.
const readBuffer = 128 << 10

// differs says in words how the file f in dir, which it reads through buf, differs, and nothing if it does not.
// It returns the cause of ctx's end.
func differs(ctx context.Context, dir *os.Root, f tree.File, buf []byte) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	name := filepath.FromSlash(f.Path)
	info, err := dir.Lstat(name)
	switch {
	case err != nil:
		return "it is missing", passing(err)
	case f.Directory && !info.IsDir():
		return "it is no directory", nil
	case f.Directory:
		return "", nil
	case !info.Mode().IsRegular():
		return "it is no regular file", nil
	case info.Size() != f.Size:
		return fmt.Sprintf("its size is %d instead of %d bytes", info.Size(), f.Size), nil
	}
	content, err := disk.OpenRegular(dir, name)
	if err != nil {
		return "", err
	}
	defer content.Close()
	stop := context.AfterFunc(ctx, func() { _ = content.Close() })
	defer stop()
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, struct{ io.Reader }{content}, buf); err != nil {
		return "", errors.Join(err, context.Cause(ctx))
	}
	switch executable := info.Mode()&0o100 != 0; {
	case shard.Digest(sum.Sum(nil)) != f.Digest:
		return "it has other bytes", nil
	case executable && !f.Executable:
		return "its owner may execute it", nil
	case !executable && f.Executable:
		return "its owner may not execute it", nil
	}
	return "", nil
}

// others returns what is in dir and not in t.
func others(dir *os.Root, t *tree.Tree) (differences []Difference, err error) {
	parents := make(map[string]bool)
	for f := range t.Files() {
		for name := path.Dir(f.Path); name != "." && !parents[name]; name = path.Dir(name) {
			parents[name] = true
		}
	}
	err = disk.Walk(dir, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || parents[name] {
			return err
		}
		if _, listed := t.Find(name); listed {
			return nil
		}
		differences = append(differences, Difference{name, "it is not of the version"})
		if entry.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	return differences, err
}
