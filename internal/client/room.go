package client

import (
	"context"
	"fmt"
	"os"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/partial"
	"github.com/shardcast/shardcast/internal/reuse"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// begin finds what the seeds of d have of the version that m describes, which is the tree t unless that is
// nil. The error matches [disk.ErrNoSpace] if out has no room for the other bytes, and those that share no
// block with a seed.
func (c *Client) begin(ctx context.Context, d Download, m shard.Manifest, t *tree.Tree, out *output) error {
	var err error
	// Where nothing is shared, no seed is read in vain.
	if out.short == nil || disk.IsFull(out.short) && len(d.Seeds) > 0 && disk.Shares(out.dir) {
		out.seeds = d.Seeds
		if out.known, err = c.sources(ctx, d, m, t); err != nil {
			return err
		}
		if out.short != nil {
			out.short = out.content.Begin(out.shareable(m))
		}
	}
	if out.short != nil {
		return local{fmt.Errorf("write %s: %w", d.Path, out.short)}
	}
	return nil
}

// shareable returns how many of the bytes that are known, and not there, take no room when they are
// copied.
func (o *output) shareable(m shard.Manifest) (shared int64) {
	for i := range m.Shards {
		if o.needed == nil || o.needed[i+1] {
			shared += o.shareableOf(m.Shard(i + 1))
		}
	}
	return shared
}

// shareableOf is shareable for one shard.
func (o *output) shareableOf(s shard.Shard) int64 {
	var there []disk.Range
	if o.resumed {
		var err error
		if there, err = o.content.Written(s.Offset, s.Offset+s.Size); err != nil {
			return 0
		}
	}
	count := &counting{content: o.content, shard: s}
	after, err := o.known.Rehearse(s, there, count)
	if err != nil {
		return 0
	}
	// What is there, and would be copied once more, counts already.
	again := count.copied - (sizeOf(after) - sizeOf(there))
	return max(0, count.shared-again)
}

// sizeOf returns how many bytes ranges have.
func sizeOf(ranges []disk.Range) (size int64) {
	for _, r := range ranges {
		size += r.To - r.From
	}
	return size
}

// counting is a [reuse.Target] for one shard that counts bytes, and copies none.
type counting struct {
	content        partial.Content
	shard          shard.Shard
	copied, shared int64
}

var _ reuse.Target = (*counting)(nil)

// WriteAt counts the bytes of p.
func (c *counting) WriteAt(p []byte, _ int64) (int, error) {
	c.copied += int64(len(p))
	return len(p), nil
}

// CopyAt counts the bytes.
func (c *counting) CopyAt(src *os.File, from, offset, size int64) error {
	c.copied += size
	c.shared += c.content.Shared(src, from, c.shard.Offset+offset, size)
	return nil
}
