package tree

import (
	"errors"
	"fmt"
	"iter"
	"os"

	"github.com/shardcast/shardcast/internal/shard"
)

// A Part is some of the files of a tree. It never changes.
type Part struct {
	tree   *Tree
	wanted []bool // by file
	alone  *Tree  // of these files
}

// Part returns the files of t that match one of patterns, which are as in [Options.Include].
// The error names a bad pattern, or says that no file matches.
func (t *Tree) Part(patterns []string) (*Part, error) {
	chosen, err := newChoice(Options{Include: patterns})
	if err != nil {
		return nil, err
	}
	p := &Part{tree: t, wanted: make([]bool, t.Len())}
	count := 0
	for i := range p.wanted {
		if f := t.File(i); !f.Directory && chosen.takes(f.Path) {
			p.wanted[i] = true
			count++
		}
	}
	if count == 0 {
		return nil, fmt.Errorf("no file of it matches %q", patterns)
	}
	p.alone, err = lay(count, p.files())
	return p, err
}

// files yields the files.
func (p *Part) files() iter.Seq[File] {
	return func(yield func(File) bool) {
		for i, wanted := range p.wanted {
			if wanted && !yield(p.tree.File(i)) {
				return
			}
		}
	}
}

// Tree returns the tree of these files alone, and of no directory.
func (p *Part) Tree() *Tree { return p.alone }

// Shards returns the numbers of the shards of m, the tree's manifest, that have bytes of the
// files.
func (p *Part) Shards(m shard.Manifest) map[int]bool {
	numbers := make(map[int]bool)
	for f := range p.files() {
		if f.Size == 0 {
			continue
		}
		for at := f.Offset / m.ShardSize; at <= (f.Offset+f.Size-1)/m.ShardSize; at++ {
			numbers[int(at)+1] = true
		}
	}
	return numbers
}

// NewPartDir is [NewDir] of the files of p. The bytes of other files, which shards need to be
// verified, go to rest, at their offsets in the stream. The Dir does not close it.
func NewPartDir(root *os.Root, p *Part, rest *os.File) (*Dir, error) {
	info, err := rest.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("the file for other bytes is no regular one")
	}
	return newDir(root, p.tree, &remainder{p.wanted, rest, info.Size() > 0})
}

// remainder is where the bytes of files go that are not wanted.
type remainder struct {
	wanted []bool // by file
	file   *os.File
	began  bool // by an earlier Dir
}

// wants reports whether file i is in the directory.
func (d *Dir) wants(i int) bool { return d.rest == nil || d.rest.wanted[i] }
