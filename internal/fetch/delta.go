package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/offers"
	"github.com/shardcast/shardcast/internal/rebuild"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/transfer"
	"github.com/shardcast/shardcast/internal/verify"
)

// A Base is a stream that is on this machine, which a delta may turn into a version.
type Base interface {
	rebuild.Base
	io.Closer
}

// A Rebuilder is a place that may be filled by a delta. What is written to it is verified as what
// was there before.
type Rebuilder interface {
	io.WriterAt

	// There returns the ranges of the stream that are there, or known to be on this machine, ascending.
	There() ([]disk.Range, error)

	// Base returns the stream of that digest on this machine, or nil if there is none.
	Base(ctx context.Context, digest shard.Digest) (Base, error)

	// Delta opens the place for a delta's shards: what a line of the manifest says, and the manifest of the
	// delta, as it is written, too. It is called at most once.
	Delta(ctx context.Context, line shard.Delta, m shard.DeltaManifest, text []byte, tier int) (Sink, Audience, error)

	// EndDelta says that no more of a delta comes, nor is written: none was taken, or it ended with err.
	EndDelta(err error)
}

const (
	// worth is how many times smaller a delta has to be than the bytes that are missing.
	worth = 2

	// deltaPatience is how long no byte of a delta may come before it is given up.
	deltaPatience = 15 * time.Second
)

// errSilent ends a delta that does not come.
var errSilent = errors.New("nothing of it has come for a while")

// rebuilding is a delta that is fetched and applied.
type rebuilding struct {
	*rebuild.Rebuild

	to     Rebuilder
	logger *slog.Logger
	line   shard.Delta
	cancel context.CancelFunc
	group  sync.WaitGroup
	err    error // once the group has ended
}

// rebuild begins to fill the place to by a delta of the version that m describes, if there is one that is
// worth it, of a base that is here. The caller ends what it returns.
func (f *fetching) rebuild(ctx context.Context, m offers.Manifest, to Rebuilder) *rebuilding {
	logger := f.pool.opts.Logger.With("version", m.Entry.Version.String())
	ctx, cancel := context.WithCancel(ctx)
	line, base, there, err := chosen(ctx, m.Stated, to)
	if base == nil {
		if err != nil && ctx.Err() == nil {
			logger.Warn("delta not used", "err", err)
		}
		to.EndDelta(err)
		cancel()
		return nil
	}
	r := &rebuilding{Rebuild: rebuild.New(m.Stated, there), to: to, logger: logger, line: line, cancel: cancel}
	r.group.Go(func() {
		defer base.Close()
		r.err = f.apply(ctx, m, line, base, r)
		r.Abandon()
		if r.err != nil && ctx.Err() == nil {
			r.warn(r.err)
		}
		to.EndDelta(r.err)
	})
	return r
}

// end ends r, which may be nil: when all of it is done if the version is whole, and at once otherwise.
func (r *rebuilding) end(whole bool) {
	if r == nil {
		return
	}
	if !whole {
		r.cancel()
	}
	r.group.Wait()
	r.cancel()
	switch shards, err := r.Disagreed(); {
	case r.err != nil || shards == 0: // it is said
	case err != nil:
		r.warn(err)
	default:
		r.logger.Warn("delta used in part", "base", r.line.Base.String(), "shards", shards, "err", rebuild.ErrDisagrees)
	}
}

func (r *rebuilding) warn(err error) {
	r.logger.Warn("delta given up, the rest is fetched", "base", r.line.Base.String(), "err", err)
}

// giver returns r for a transfer.
func (r *rebuilding) giver() transfer.Giver {
	if r == nil {
		return nil
	}
	return r.Rebuild
}

// chosen returns the smallest delta of m that is worth it and whose base is here, or no base.
func chosen(ctx context.Context, m shard.Manifest, to Rebuilder) (
	line shard.Delta, base Base, there []disk.Range, err error,
) {
	if len(m.Deltas) == 0 {
		return line, nil, nil, nil
	}
	if there, err = to.There(); err != nil {
		return line, nil, nil, err
	}
	missing := m.Size
	for _, r := range there {
		missing -= r.To - r.From
	}
	lines := slices.Clone(m.Deltas)
	slices.SortFunc(lines, func(a, b shard.Delta) int { return cmp.Compare(a.Size, b.Size) })
	for _, line := range lines {
		if line.Size > missing/worth {
			break
		}
		found, failed := to.Base(ctx, line.BaseDigest)
		if found != nil {
			return line, found, there, nil
		}
		err = errors.Join(err, failed)
	}
	return line, nil, nil, err
}

// apply fetches the delta that line is about, and makes the version from base by it meanwhile.
func (f *fetching) apply(ctx context.Context, m offers.Manifest, line shard.Delta, base Base, r *rebuilding) error {
	p := f.pool
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	want := p.offers.Delta(m.Entry, line)
	bounded, cancel := context.WithTimeoutCause(ctx, deltaPatience, errSilent)
	dm, text, tier, err := want.Manifest(bounded, m.Stated.Digest)
	cancel()
	if err != nil {
		return fmt.Errorf("fetch its manifest: %w", offers.Named(err))
	}
	sink, audience, err := r.to.Delta(ctx, line, dm, text, tier)
	if err != nil {
		return err
	}
	content := dm.Content()
	arriving := rebuild.NewArriving(content, sink)
	tally := f.tally.Delta()
	t := transfer.New(transfer.Options{
		Version: m.Entry.Version, Manifest: content, Pinned: true, Sink: arriving, Audience: audience,
		Verifier: verify.New(verify.Options{
			Manifest: content, Listed: content.Digest, Signed: true, // its digest is in the version's manifest
			Open: func(s shard.Shard) (verify.Place, error) { return sink.Open(s) },
		}),
		Get: want.Get, Blame: want.Refuse, Workers: p.opts.Concurrency,
		Roster: p.roster, Tally: tally, Logger: p.opts.Logger,
	})
	p.opts.Logger.Info("taking delta", "version", m.Entry.Version.String(), "base", line.Base.String(),
		"bytes", line.Size, "size", m.Stated.Size)
	var group sync.WaitGroup
	var failed error // of the transfer
	coming, ended := context.WithCancel(ctx)
	group.Go(func() {
		defer ended()
		_, failed = t.Run(ctx, transfer.NewInOrder(t, p.opts.Timeout, tier, want.Job))
		arriving.End(failed)
	})
	group.Go(func() { f.watchDelta(coming, stop) })
	if err = r.Run(ctx, arriving.Reader, base, r.to); err != nil {
		stop(err)
	}
	group.Wait()
	return cmp.Or(err, failed)
}

// watchDelta stops a delta of which nothing comes, until ctx ends.
func (f *fetching) watchDelta(ctx context.Context, stop context.CancelCauseFunc) {
	for was := int64(-1); ; {
		now := f.tally.Received()
		if now == was {
			stop(errSilent)
			return
		}
		was = now
		if roster.Sleep(ctx, deltaPatience, nil) != nil {
			return
		}
	}
}
