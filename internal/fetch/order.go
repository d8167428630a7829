package fetch

import (
	"context"
	"io"
	"sync"

	"github.com/shardcast/shardcast/internal/shard"
)

// inOrder checks shards in their order, when all of them has come, against their digests
// and the file's at the same time: that costs half of what both cost by themselves, and
// takes no longer than the file's alone, which has to be computed in order anyhow. Who
// has brought a shard does it, if that or one that follows is next, and nobody else is at
// it.
type inOrder struct {
	mu   sync.Mutex       // guards what follows
	came map[int]*arrival // that are to be checked
	next int              // number of the first shard that is not right yet
	busy bool             // somebody checks it

	sums *shard.Sums   // of all shards before next; for who is busy
	done chan struct{} // closed when all are right
}

// newInOrder returns nil where a shard has to be known to be right by itself, since it is
// passed on, or where other digests are needed.
func (f *fetching) newInOrder() *inOrder {
	if f.relay || f.source == nil || f.cut != nil || f.manifest.Digest != f.entry.Digest {
		return nil
	}
	o := &inOrder{
		came: make(map[int]*arrival), next: 1,
		sums: shard.NewSums(f.manifest.ShardSize), done: make(chan struct{}),
	}
	if len(f.digests) == 0 {
		close(o.done)
	}
	return o
}

// check takes a, all of which has come, and checks what is next as far as it is there.
// It returns the span of one that is wrong.
func (o *inOrder) check(ctx context.Context, a *arrival, buf []byte) (*span, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.came[a.shard.Number] = a
	for !o.busy && o.came[o.next] != nil {
		next := o.came[o.next]
		delete(o.came, o.next)
		o.busy = true
		o.mu.Unlock()
		again, err := o.checkNext(ctx, next, buf)
		o.mu.Lock()
		o.busy = false
		if again != nil || err != nil {
			return again, err
		}
		if o.next++; o.next > len(a.digests) {
			close(o.done)
		}
	}
	return nil, nil //nolint:nilnil // nothing to do
}

// checkNext checks the shard that follows those that sums are of.
func (o *inOrder) checkNext(ctx context.Context, a *arrival, buf []byte) (*span, error) {
	before := o.sums.Clone()
	n, err := io.CopyBuffer(o.sums, struct{ io.Reader }{io.NewSectionReader(a.place, 0, a.shard.Size)}, buf)
	if err == nil && n < a.shard.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, local{err}
	}
	again, err := a.settle(ctx, o.sums.EndShard())
	if again != nil {
		o.sums = before
	}
	return again, err
}
