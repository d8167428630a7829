package reuse

import (
	"errors"
	"iter"
	"os"
	"path"
	"path/filepath"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/tree"
)

// File returns the stream of the regular file at path, which is opened for each use. It
// follows no link in the last element of path.
func File(path string) Stream { return file(path) }

type file string

// Parts yields one part.
func (f file) Parts(offset, size int64) iter.Seq2[Part, error] {
	return func(yield func(Part, error) bool) {
		opened, err := open(string(f))
		if err != nil {
			yield(Part{}, err)
			return
		}
		defer opened.Close()
		yield(Part{File: opened, At: offset, Size: size}, nil)
	}
}

// below is the stream of the regular file name, a path with slashes, in the directory dir.
type below struct{ dir, name string }

// Parts yields one part.
func (b below) Parts(offset, size int64) iter.Seq2[Part, error] {
	return file(filepath.Join(b.dir, filepath.FromSlash(b.name))).Parts(offset, size)
}

// open opens the regular file at path.
func open(path string) (*os.File, error) {
	dir, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	f, err := disk.OpenRegular(dir, filepath.Base(path))
	return f, errors.Join(err, dir.Close())
}

// Tree returns the stream of the directory dir, which has the files of t.
func Tree(dir string, t *tree.Tree) Stream { return directory{dir, t} }

type directory struct {
	dir  string
	tree *tree.Tree
}

// Parts yields a part of each file in its turn.
func (d directory) Parts(offset, size int64) iter.Seq2[Part, error] {
	return func(yield func(Part, error) bool) {
		for piece := range d.tree.Pieces(offset, size) {
			if !d.part(piece, yield) {
				return
			}
		}
	}
}

// part yields the part of one piece.
func (d directory) part(piece tree.Piece, yield func(Part, error) bool) bool {
	if piece.File < 0 {
		return yield(Part{Size: piece.Size, Text: d.tree.Made(piece)}, nil)
	}
	dir, err := os.OpenRoot(d.dir)
	if err != nil {
		return yield(Part{}, err)
	}
	defer dir.Close()
	f, err := disk.OpenRegular(dir, path.Clean(d.tree.File(piece.File).Path))
	if err != nil {
		return yield(Part{}, err)
	}
	defer f.Close()
	return yield(Part{File: f, At: piece.At, Size: piece.Size}, nil)
}
