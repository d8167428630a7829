package fetch

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/shardcast/shardcast/internal/shard"
)

// inOrder checks shards in their order, when all of them has come, against their digests
// and the file's at the same time: that costs half of what both cost by themselves, and
// takes no longer than the file's alone, which has to be computed in order anyhow. Who
// has brought a shard does it, if that or one that follows is next, and nobody else is at
// it. Of those that were checked by themselves already only the file's is computed.
type inOrder struct {
	mu   sync.Mutex       // guards what follows
	came map[int]*arrival // whose turn is yet to come
	next int              // number of the first shard that is not right yet
	busy bool             // somebody checks it

	proven  map[*upstream]bool          // by a right shard
	proving map[*upstream]chan struct{} // closed when that has been tried

	sums *shard.Sums   // of all shards before next; for who is busy
	done chan struct{} // closed when all are right
}

// newInOrder returns nil where each shard has to be known to be right by itself, since it is
// passed on, or where other digests are needed.
func (f *fetching) newInOrder() *inOrder {
	if f.relay && f.swarm == nil || f.blake3 || f.source == nil || f.manifest.Digest != f.entry.Digest {
		return nil
	}
	o := &inOrder{
		came: make(map[int]*arrival), next: 1, proven: make(map[*upstream]bool), proving: make(map[*upstream]chan struct{}),
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
	if !a.byItself {
		if again, err := o.prove(ctx, a, buf); again != nil || err != nil {
			return again, err
		}
	}
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

// overdue returns one whose turn is yet to come, and which then comes again, or nil.
func (o *inOrder) overdue() *arrival {
	o.mu.Lock()
	defer o.mu.Unlock()
	for number, a := range o.came {
		if !a.byItself {
			delete(o.came, number)
			return a
		}
	}
	return nil
}

// prove checks a by itself if nothing right has come yet of one who sent it: who sends
// nothing that is right is to be found out before he is asked for more. Who has something
// of an upstream that is being proven waits for that. It returns the span if a is wrong.
// The caller holds mu, which is given up meanwhile.
func (o *inOrder) prove(ctx context.Context, a *arrival, buf []byte) (*span, error) {
	var strangers []*upstream
	for {
		strangers = slices.DeleteFunc(a.senders(), func(u *upstream) bool { return o.proven[u] })
		i := slices.IndexFunc(strangers, func(u *upstream) bool { return o.proving[u] != nil })
		if i < 0 {
			break
		}
		over := o.proving[strangers[i]]
		o.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
		}
		o.mu.Lock()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	if len(strangers) == 0 {
		return nil, nil //nolint:nilnil // nothing to do
	}
	over := make(chan struct{})
	for _, u := range strangers {
		o.proving[u] = over
	}
	o.mu.Unlock()
	got, err := a.digest(buf)
	var again *span
	if err == nil && got != a.shard.Digest {
		again, err = a.settle(ctx, got)
	}
	o.mu.Lock()
	for _, u := range strangers {
		delete(o.proving, u)
		o.proven[u] = again == nil && err == nil
	}
	close(over)
	return again, err
}

// checkNext checks the shard that follows those that sums are of.
func (o *inOrder) checkNext(ctx context.Context, a *arrival, buf []byte) (*span, error) {
	if a.byItself { // it is right, and its place closed
		place, err := a.sink.Open(a.shard)
		if err == nil {
			err = errors.Join(o.add(place, a.shard.Size, buf), place.Close())
		}
		if err != nil {
			return nil, local{err}
		}
		o.sums.EndShard()
		return nil, nil //nolint:nilnil // nothing to do
	}
	before := o.sums.Clone()
	if err := o.add(a.place, a.shard.Size, buf); err != nil {
		return nil, local{err}
	}
	again, err := a.settle(ctx, o.sums.EndShard())
	if again != nil {
		o.sums = before
	}
	return again, err
}

// add adds a shard to the sums.
func (o *inOrder) add(place io.ReaderAt, size int64, buf []byte) error {
	n, err := io.CopyBuffer(o.sums, struct{ io.Reader }{io.NewSectionReader(place, 0, size)}, buf)
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	return err
}
