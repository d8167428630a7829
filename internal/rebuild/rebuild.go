// Package rebuild makes a version from another one, its base, by a delta, while the delta arrives and
// the version is verified. It refuses to know where the three are, and which delta is worth it.
//
// It trusts nothing: what it has made is data that may be wrong, as that of an earlier download. The
// transfer of the version verifies it shard by shard, has servers send what does not agree, and says so
// here; after three such shards no more is made.
package rebuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/shardcast/shardcast/internal/delta"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signal"
)

const (
	// mostWrong is how many shards may disagree with their digests before the delta is given up.
	mostWrong = 3

	// ahead in bytes is how far it goes beyond the shards that are waited for. What is verified soon is
	// still in memory then, and of a wrong base no more than this is written in vain.
	ahead = 256 << 20
)

// ErrDisagrees means that what was made of a delta is not the version.
var ErrDisagrees = errors.New("it makes other bytes than those of the version")

// A Rebuild is the making of one version. Its methods may be called from any goroutine.
type Rebuild struct {
	manifest shard.Manifest
	there    []disk.Range

	mu      sync.Mutex   // guards what follows
	end     int64        // all bytes before it are in their places
	awaited int64        // the end of the furthest shard that was waited for
	wrong   map[int]bool // numbers of shards that disagree
	over    bool         // nothing is written any more
	failed  bool         // what was made is not to be used
	stop    context.CancelCauseFunc

	changed signal.Signal // of all these
}

// New returns the making of the version that m describes, of which the ranges there, ascending, need not be made.
// It is over when [Rebuild.Run] has returned.
func New(m shard.Manifest, there []disk.Range) *Rebuild {
	return &Rebuild{manifest: m, there: there, wrong: make(map[int]bool), stop: func(error) {}}
}

// A Base is the stream from which a version is made.
type Base interface {
	io.ReaderAt
	Size() int64
}

// Run makes the version from base, by the delta that in has, and writes it to a place. It returns why no more
// was made, which is [ErrDisagrees] after three shards that disagreed, or what ended ctx. A read of in
// has to end with ctx.
func (r *Rebuild) Run(ctx context.Context, in func(context.Context) io.Reader, base Base, to io.WriterAt) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.change(func() { r.stop = cancel })
	err := r.apply(ctx, in(ctx), base, to)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	r.change(func() { r.over = true })
	return err
}

func (r *Rebuild) apply(ctx context.Context, in io.Reader, base Base, to io.WriterAt) error {
	d, err := delta.NewReader(in)
	if err != nil {
		return err
	}
	if h := d.Header(); h.BaseSize != base.Size() || h.TargetSize != r.manifest.Size {
		return fmt.Errorf("it makes %d bytes of %d, and the version has %d, its base %d",
			h.TargetSize, h.BaseSize, r.manifest.Size, base.Size())
	}
	return d.Apply(ctx, base, to, delta.Progress{Skip: r.skip, Done: func(end int64) { r.done(ctx, end) }})
}

// Abandon ends the making: it never begins, or is over.
func (r *Rebuild) Abandon() { r.change(func() { r.over = true }) }

func (r *Rebuild) change(by func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	by()
	r.changed.Raise()
}

// skip reports whether a block is there already.
func (r *Rebuild) skip(offset, size int64) bool {
	for _, there := range r.there {
		if there.From <= offset && offset+size <= there.To {
			return true
		}
	}
	return false
}

// done notes how far the version is made, and waits if that is too far ahead.
func (r *Rebuild) done(ctx context.Context, end int64) {
	r.change(func() { r.end = end })
	for {
		r.mu.Lock()
		changed, far := r.changed.Wait(), r.end > r.awaited+ahead
		r.mu.Unlock()
		if !far {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Await waits until shard number is made, or no more is, and returns the ranges of it that were made, ascending. It
// reports whether what is there is better not used: it disagreed, or three other shards did. The error is the cause
// of ctx's end.
func (r *Rebuild) Await(ctx context.Context, number int) (made []disk.Range, doubtful bool, err error) {
	s := r.manifest.Shard(number)
	for {
		r.mu.Lock()
		if s.Offset+s.Size > r.awaited {
			r.awaited = s.Offset + s.Size
			r.changed.Raise()
		}
		changed, over := r.changed.Wait(), r.over
		ready := over || r.end >= s.Offset+s.Size && !r.failed
		made = r.made(s)
		doubtful = (r.failed || r.wrong[number]) && len(made) > 0
		r.mu.Unlock()
		switch {
		case ready && doubtful:
			return nil, true, nil
		case ready:
			return made, false, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
	}
}

// made returns the ranges of s that were made, with r locked: whole blocks, that are not there as a whole.
func (r *Rebuild) made(s shard.Shard) (made []disk.Range) {
	end := min(r.end, s.Offset+s.Size)
	for at := s.Offset / delta.BlockSize * delta.BlockSize; at < end; at += delta.BlockSize {
		if r.skip(at, min(delta.BlockSize, r.manifest.Size-at)) {
			continue
		}
		from, to := max(at, s.Offset)-s.Offset, min(at+delta.BlockSize, end)-s.Offset
		if last := len(made) - 1; last >= 0 && made[last].To == from {
			made[last].To = to
		} else {
			made = append(made, disk.Range{From: from, To: to})
		}
	}
	return made
}

// Wrong says that shard number disagrees with its digest.
func (r *Rebuild) Wrong(number int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong[number] = true
	if len(r.wrong) >= mostWrong && !r.failed {
		r.failed = true
		r.stop(ErrDisagrees)
		r.changed.Raise()
	}
}

// Disagreed returns how many shards that were made disagreed with their digests, and [ErrDisagrees] if these were so
// many that nothing that was made is used any more.
func (r *Rebuild) Disagreed() (shards int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed {
		err = ErrDisagrees
	}
	return len(r.wrong), err
}
