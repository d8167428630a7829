package reuse

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

// Path adds what the file or directory at a path has, which it reads: in a file the bytes at
// the places where shards begin, and of the files in a directory those that have the size of
// a file of the tree; where the version is a file, also the bytes of each at those places. It
// leaves out what is no regular file, and what cannot be read, with one line in the log. It
// returns the cause of ctx's end.
func (s *Sources) Path(ctx context.Context, path string) error {
	group, hashing := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	found := seed{path: path, sources: s, sizes: s.sizes()}
	buffers := sync.Pool{New: func() any { b := make([]byte, hashBuffer); return &b }}
	found.begin = func(p span) error {
		group.Go(func() error {
			buffer, _ := buffers.Get().(*[]byte)
			defer buffers.Put(buffer)
			if err := p.hash(hashing, s, *buffer); err != nil && hashing.Err() == nil {
				found.leave(p.path(), err)
			}
			return context.Cause(hashing)
		})
		return hashing.Err()
	}
	failed := found.look()
	_ = group.Wait() // the cause of ctx's end
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if failed != nil {
		s.logger.Warn("seed not used", "path", path, "err", failed)
	} else if found.left > 0 {
		s.logger.Warn("seed used in part", "path", path, "left", found.left, "err", found.first)
	}
	return nil
}

// sizes returns the sizes of the tree's files, in bytes, but 0.
func (s *Sources) sizes() map[int64]bool {
	sizes := make(map[int64]bool)
	if s.tree != nil {
		for f := range s.tree.Files() {
			sizes[f.Size] = f.Size > 0
		}
	}
	return sizes
}

// seed is a file or directory that is looked through.
type seed struct {
	path    string
	sources *Sources
	sizes   map[int64]bool   // of the tree's files
	begin   func(span) error // begins to hash one

	left  int   // files that are left out
	first error // why the first of them is
}

// span is a part of a file that may be wanted.
type span struct {
	dir, name string // of the file; the directory is that of the seed, or empty
	offset    int64
	size      int64
}

func (p span) path() string { return filepath.Join(p.dir, p.name) }

// leave notes that a file is left out.
func (s *seed) leave(path string, err error) {
	s.sources.mu.Lock()
	defer s.sources.mu.Unlock()
	if s.left++; s.first == nil {
		s.first = &fs.PathError{Op: "seed", Path: path, Err: err}
	}
}

// errIrregular is why links, pipes and devices are left out.
var errIrregular = errors.New("it is no regular file")

// look finds the spans.
func (s *seed) look() error {
	real, err := filepath.EvalSymlinks(s.path)
	if err != nil {
		return err
	}
	info, err := os.Stat(real)
	switch {
	case err != nil:
		return err
	case info.Mode().IsRegular():
		return s.add("", real, info.Size(), true)
	case !info.IsDir():
		return errIrregular
	}
	root, err := os.OpenRoot(real)
	if err != nil {
		return err
	}
	defer root.Close()
	return disk.Walk(root, ".", func(name string, entry fs.DirEntry, err error) error {
		name = filepath.FromSlash(name)
		switch {
		case err != nil:
			s.leave(filepath.Join(real, name), err)
		case strings.HasSuffix(entry.Name(), arriving):
			if entry.IsDir() {
				return fs.SkipDir
			}
		case entry.IsDir():
		case !entry.Type().IsRegular():
			s.leave(filepath.Join(real, name), errIrregular)
		default:
			if info, err := entry.Info(); err != nil {
				s.leave(filepath.Join(real, name), err)
			} else {
				return s.add(real, name, info.Size(), s.sources.tree == nil)
			}
		}
		return nil
	})
}

// arriving ends the names of partial files and directories.
const arriving = ".shardcast-part"

// add begins the file name in dir, of size bytes: as a whole, if that may be wanted, and its
// shards if cut is set.
func (s *seed) add(dir, name string, size int64, cut bool) error {
	if s.sizes[size] {
		if err := s.begin(span{dir, name, 0, size}); err != nil {
			return err
		}
	}
	if !cut {
		return nil
	}
	m := s.sources.manifest
	offset := int64(0)
	for ; m.ShardSize > 0 && m.Size >= m.ShardSize && offset+m.ShardSize <= size; offset += m.ShardSize {
		if err := s.begin(span{dir, name, offset, m.ShardSize}); err != nil {
			return err
		}
	}
	if n := len(m.Shards); n > 0 && size-offset == m.Shard(n).Size {
		return s.begin(span{dir, name, offset, size - offset})
	}
	return nil
}

// hashBuffer in bytes is read at a time.
const hashBuffer = 128 << 10

// hash computes the digest of the span, which it reads through buf, and notes it if it is wanted.
func (p span) hash(ctx context.Context, s *Sources, buf []byte) error {
	f, err := open(p.path())
	if err != nil {
		return err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	defer stop()
	digest := sha256.New()
	n, err := io.CopyBuffer(digest, struct{ io.Reader }{io.NewSectionReader(f, p.offset, p.size)}, buf)
	if err != nil {
		return err
	}
	if n == p.size {
		s.found(content{shard.Digest(digest.Sum(nil)), p.size}, place{s.stream(p), p.offset})
	}
	return nil
}

// stream returns the stream of the file of p. A seed of many files is in most cases like the tree,
// so its names are the tree's, for memory.
func (s *Sources) stream(p span) Stream {
	if p.dir == "" {
		return file(p.name)
	}
	name := filepath.ToSlash(p.name)
	if s.tree != nil {
		if i, ok := s.tree.Find(name); ok {
			name = s.tree.File(i).Path
		}
	}
	return below{p.dir, name}
}
