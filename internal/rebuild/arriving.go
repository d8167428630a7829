package rebuild

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signal"
	"github.com/shardcast/shardcast/internal/transfer"
)

// Arriving is a delta on its way: the sink of its shards, which keeps them in another one, and their reader in
// order, as soon as they are right.
type Arriving struct {
	manifest shard.Manifest
	sink     transfer.Sink

	mu    sync.Mutex // guards what follows
	right map[int]bool
	ended bool
	err   error

	changed signal.Signal
}

// NewArriving returns the delta that m describes, of which nothing has come to the sink.
func NewArriving(m shard.Manifest, sink transfer.Sink) *Arriving {
	return &Arriving{manifest: m, sink: sink, right: make(map[int]bool)}
}

// Open returns the place of s.
func (a *Arriving) Open(s shard.Shard) (transfer.Place, error) {
	p, err := a.sink.Open(s)
	if err != nil {
		return nil, err
	}
	return arrivingPlace{p, a, s.Number}, nil
}

// arrivingPlace is a place that says when its shard is right.
type arrivingPlace struct {
	transfer.Place

	of     *Arriving
	number int
}

// Commit commits the place.
func (p arrivingPlace) Commit() error {
	if err := p.Place.Commit(); err != nil {
		return err
	}
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.of.right[p.number] = true
	p.of.changed.Raise()
	return nil
}

// End says that no more comes, because of err, or that all has come if that is nil.
func (a *Arriving) End(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended, a.err = true, err
	a.changed.Raise()
}

// Reader returns a reader of the delta, whose reads end with ctx.
func (a *Arriving) Reader(ctx context.Context) io.Reader { return &reader{ctx: ctx, of: a} }

// reader reads the shards in order.
type reader struct {
	ctx    context.Context //nolint:containedctx // io.Reader has none
	of     *Arriving
	offset int64
}

// Read reads what is left of a shard, once that is right.
func (r *reader) Read(p []byte) (int, error) {
	m := r.of.manifest
	if r.offset == m.Size {
		return 0, io.EOF
	}
	if err := r.of.await(r.ctx, m.Shard(int(r.offset/m.ShardSize)+1).Number); err != nil {
		return 0, err
	}
	n, err := readPart(m, r.of.sink, p, r.offset)
	r.offset += int64(n)
	return n, err
}

// readPart reads what one shard of the delta that m describes has from offset on.
func readPart(m shard.Manifest, in transfer.Sink, p []byte, offset int64) (int, error) {
	s := m.Shard(int(offset/m.ShardSize) + 1)
	from, err := in.Open(s)
	if err != nil {
		return 0, err
	}
	at := offset - s.Offset
	n, err := from.ReadAt(p[:min(int64(len(p)), s.Size-at)], at)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, errors.Join(err, from.Close())
}

// await waits until shard number is right.
func (a *Arriving) await(ctx context.Context, number int) error {
	for {
		a.mu.Lock()
		right, ended, err, changed := a.right[number], a.ended, a.err, a.changed.Wait()
		a.mu.Unlock()
		switch {
		case right:
			return nil
		case ended && err == nil:
			return io.ErrUnexpectedEOF
		case ended:
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
