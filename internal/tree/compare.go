package tree

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"

	"github.com/shardcast/shardcast/internal/shard"
)

// A Comparison compares the stream that is written to it, in order, with a tree.
type Comparison struct {
	tree   *Tree
	offset int64
	sum    hash.Hash // of the file that is being written
	wrong  []error
}

// Compare returns a comparison for a stream.
func (t *Tree) Compare() *Comparison {
	c := &Comparison{tree: t, sum: sha256.New()}
	for f := range t.Files() {
		if !f.Directory && f.Size == 0 && f.Digest != shard.EmptyDigest() {
			c.differs(fmt.Errorf("%s: %w", f.Path, shard.ErrDigest))
		}
	}
	return c
}

// Write compares the next bytes. It returns no error: [Comparison.Wrong] has what differs.
func (c *Comparison) Write(p []byte) (int, error) {
	rest := p
	for part := range c.tree.Pieces(c.offset, int64(len(p))) {
		c.compare(part, rest[:part.Size])
		rest = rest[part.Size:]
	}
	c.offset += int64(len(p))
	return len(p), nil
}

// compare compares the bytes of a part.
func (c *Comparison) compare(part Piece, p []byte) {
	if part.File < 0 {
		made := make([]byte, len(p))
		if c.tree.make(part, made); !bytes.Equal(p, made) {
			c.differs(fmt.Errorf("%w: the version has something else %s", ErrTree, c.tree.where(part.Offset)))
		}
		return
	}
	f := c.tree.File(part.File)
	if part.At == 0 {
		c.sum.Reset()
	}
	_, _ = c.sum.Write(p) // a hash takes all
	if part.At+part.Size == f.Size && shard.Digest(c.sum.Sum(nil)) != f.Digest {
		c.differs(fmt.Errorf("%s: %w", f.Path, shard.ErrDigest))
	}
}

// mostWrong bounds the differences that a comparison keeps.
const mostWrong = 100

func (c *Comparison) differs(err error) {
	if len(c.wrong) < mostWrong {
		c.wrong = append(c.wrong, err)
	}
}

// Wrong returns what differs, in the order of the stream: the files, by their paths, whose
// content is not of its digest, and bytes of no file. There are at most 100 of them.
func (c *Comparison) Wrong() []error { return c.wrong }
