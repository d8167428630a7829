package rebuild

import (
	"context"
	"fmt"
	"io"

	"github.com/shardcast/shardcast/internal/delta"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/transfer"
)

// A Target is a version between a base and another version, which is made as far as it is read.
type Target = delta.Target

// NewTarget returns the version of size bytes that a delta makes of base. The delta is the one that m describes, whose
// shards are all in the sink, and right. The caller closes the target. It makes nothing more when ctx has ended: a
// delta that was made to be slow has many blocks made for one that is read.
func NewTarget(ctx context.Context, m shard.Manifest, in transfer.Sink, base Base, size int64) (*Target, error) {
	t, err := delta.NewTarget(whole{ctx, m, in}, base)
	if err != nil {
		return nil, err
	}
	if t.Size() != size {
		t.Close()
		return nil, fmt.Errorf("it makes %d bytes, and the version has %d", t.Size(), size)
	}
	return t, nil
}

// whole is a delta whose shards are all in a sink, until ctx ends.
type whole struct {
	ctx      context.Context //nolint:containedctx // io.ReaderAt has none
	manifest shard.Manifest
	in       transfer.Sink
}

// Size is that of the delta, in bytes.
func (w whole) Size() int64 { return w.manifest.Size }

// ReadAt reads from the shards.
func (w whole) ReadAt(p []byte, offset int64) (n int, err error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	for n < len(p) && err == nil {
		if offset >= w.manifest.Size {
			return n, io.EOF
		}
		var part int
		part, err = readPart(w.manifest, w.in, p[n:], offset)
		if part == 0 && err == nil {
			err = io.ErrUnexpectedEOF
		}
		n, offset = n+part, offset+int64(part)
	}
	return n, err
}
