package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/offers"
	"github.com/shardcast/shardcast/internal/peering"
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

	// Between opens the place for the shards of a delta that comes before that one: the first, second and so on of
	// several that lead from a base to the version, one after the other. No reader reads them meanwhile.
	Between(ctx context.Context, number int, m shard.Manifest) (Sink, error)

	// Relay returns a delta that is to be fetched for readers when none is applied, if there is one.
	Relay() (line shard.Delta, ok bool)

	// EndDelta says that no more of a delta comes, nor is written: none was taken, or it ended with err. That is nil
	// if what it has made was verified, as far as that has come.
	EndDelta(err error)
}

// deltaPatience is how long no byte of a delta may come before it is given up.
const deltaPatience = 15 * time.Second

// relayPatience is how long a version that is whole waits for the delta that is fetched for readers alone.
const relayPatience = 5 * time.Second

// errSilent ends a delta that does not come.
var errSilent = errors.New("nothing of it has come for a while")

// errLate ends one for readers that comes after the version.
var errLate = errors.New("the version is here before it")

// errSlow ends one that would come later than the version.
var errSlow = errors.New("it takes longer than the version does in full")

// rebuilding is the deltas that are fetched and applied, or the one that is fetched for readers alone.
type rebuilding struct {
	*rebuild.Rebuild // nil of one for readers

	want   *offers.Want // of the version
	to     Rebuilder
	logger *slog.Logger
	route  route
	most   time.Duration // for the deltas to come, see [trade.patience]
	cancel context.CancelFunc
	group  sync.WaitGroup
	err    error // once the group has ended
}

// rebuild begins to fill the place to by deltas that lead to the version that m describes, if there are any that are
// worth it, from a base that is here, or to fetch one for readers. The caller ends what it returns.
func (f *fetching) rebuild(ctx context.Context, m offers.Manifest, want *offers.Want, to Rebuilder) *rebuilding {
	logger := f.pool.opts.Logger.With("version", m.Entry.Version.String())
	ctx, cancel := context.WithCancel(ctx)
	chosen, there, most, err := f.choose(ctx, m, to)
	if chosen.base == nil {
		if err != nil && ctx.Err() == nil {
			logger.Warn("delta not used", "err", err)
		}
		if line, ok := to.Relay(); ok && err == nil {
			r := &rebuilding{
				want: want, to: to, logger: logger, route: route{}.before(m, line), most: most, cancel: cancel,
			}
			r.group.Go(func() { f.relay(ctx, r) })
			return r
		}
		to.EndDelta(err)
		cancel()
		return nil
	}
	r := &rebuilding{
		Rebuild: rebuild.New(m.Stated, there), want: want, to: to, logger: logger, route: chosen, most: most,
		cancel: cancel,
	}
	logger.Info("taking delta", "base", chosen.from().String(), "bytes", chosen.size, "size", m.Stated.Size,
		"deltas", len(chosen.steps))
	r.group.Go(func() {
		defer chosen.base.Close()
		r.err = f.watched(ctx, r, f.apply)
		r.Abandon()
		if r.err != nil && ctx.Err() == nil {
			r.warn(r.err)
		}
		if r.err != nil {
			to.EndDelta(r.err)
		}
	})
	return r
}

// end ends r, which may be nil: when all of it is done if the version is whole, or soon if it is for readers alone, and
// at once otherwise.
func (r *rebuilding) end(whole bool) {
	if r == nil {
		return
	}
	switch {
	case !whole:
		r.cancel()
	case r.Rebuild == nil:
		defer time.AfterFunc(relayPatience, func() {
			r.notRelayed(errLate)
			r.cancel()
		}).Stop()
	}
	r.group.Wait()
	r.cancel()
	if r.Rebuild == nil || r.err != nil {
		return // it is said
	}
	shards, err := r.Disagreed()
	r.to.EndDelta(err)
	switch {
	case shards == 0:
	case err != nil:
		r.warn(err)
	default:
		r.logger.Warn("delta used in part",
			"base", r.route.from().String(), "shards", shards, "err", rebuild.ErrDisagrees)
	}
}

func (r *rebuilding) warn(err error) {
	r.logger.Warn("delta given up, the rest is fetched", "base", r.route.from().String(), "err", err)
}

func (r *rebuilding) notRelayed(err error) {
	r.logger.Info("delta not relayed", "base", r.route.from().String(), "err", err)
}

// giver returns r for a transfer.
func (r *rebuilding) giver() transfer.Giver {
	if r == nil || r.Rebuild == nil {
		return nil
	}
	return r.Rebuild
}

// choose returns the deltas to take to the version that m describes, without a base if there are none, what is there
// of the version, and how long the deltas may take.
func (f *fetching) choose(ctx context.Context, m offers.Manifest, to Rebuilder) (
	chosen route, there []disk.Range, most time.Duration, err error,
) {
	if len(m.Stated.Deltas) == 0 {
		return route{}, nil, 0, nil
	}
	if there, err = to.There(); err != nil {
		return route{}, nil, 0, err
	}
	missing := m.Stated.Size
	for _, r := range there {
		missing -= r.To - r.From
	}
	t := f.pool.inFull.trade(missing)
	w := way{pays: t.pays, base: to.Base, manifest: f.between}
	chosen, err = w.find(ctx, m)
	return chosen, there, t.patience(), err
}

// watched fetches deltas of r by do, whose context ends when nothing of them comes, or when they take too long, until
// do calls came.
func (f *fetching) watched(
	ctx context.Context, r *rebuilding, do func(ctx context.Context, r *rebuilding, came func()) error,
) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	coming, came := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer came()
	watching.Go(func() { watchDelta(coming, f.tally.Received, r.most, stop) })
	return do(ctx, r, came)
}

// apply fetches the deltas of r, and makes the version from its base by the last one while that arrives.
func (f *fetching) apply(ctx context.Context, r *rebuilding, came func()) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	tally := f.tally.Delta()
	from, last := rebuild.Base(r.route.base), len(r.route.steps)-1
	for i, s := range r.route.steps[:last] {
		target, err := f.target(ctx, s, i+1, from, r.to, tally)
		if err != nil {
			return fmt.Errorf("%s from %s: %w", s.to.Entry.Version, s.line.Base, err)
		}
		defer target.Close()
		from = target
	}
	d, err := f.delta(ctx, r.route.steps[last], r.want, tally)
	if err != nil {
		return err
	}
	sink, audience, err := r.to.Delta(ctx, d.line, d.manifest, d.text, d.tier)
	if err != nil {
		return err
	}
	arriving := rebuild.NewArriving(d.manifest.Content(), sink)
	var group sync.WaitGroup
	var failed error // of the transfer
	group.Go(func() {
		defer came()
		failed = f.bring(ctx, d, arriving, audience)
		arriving.End(failed)
	})
	if err = r.Run(ctx, arriving.Reader, from, r.to); err != nil {
		stop(err)
	}
	group.Wait()
	return cmp.Or(err, failed)
}

// relay fetches the delta of r for readers, who miss little if it does not come.
func (f *fetching) relay(ctx context.Context, r *rebuilding) {
	err := f.watched(ctx, r, f.fetchRelayed)
	if err != nil && ctx.Err() == nil {
		r.notRelayed(err)
	}
	r.to.EndDelta(err)
}

func (f *fetching) fetchRelayed(ctx context.Context, r *rebuilding, _ func()) error {
	d, err := f.delta(ctx, r.route.steps[0], r.want, f.tally.Delta())
	if err != nil {
		return err
	}
	sink, audience, err := r.to.Delta(ctx, d.line, d.manifest, d.text, d.tier)
	if err != nil {
		return err
	}
	return f.bring(ctx, d, sink, audience)
}

// target fetches the delta of s, which is the one of that number and not the last, and returns what it makes of from.
func (f *fetching) target(
	ctx context.Context, s step, number int, from rebuild.Base, to Rebuilder, tally *transfer.Tally,
) (*rebuild.Target, error) {
	d, err := f.delta(ctx, s, f.pool.offers.Want(s.to.Entry), tally)
	if err != nil {
		return nil, err
	}
	content := d.manifest.Content()
	sink, err := to.Between(ctx, number, content)
	if err != nil {
		return nil, err
	}
	if err := f.bring(ctx, d, sink, nil); err != nil {
		return nil, err
	}
	return rebuild.NewTarget(ctx, content, sink, from, s.to.Stated.Size)
}

// coming is a delta that is about to be fetched.
type coming struct {
	step

	want     *offers.DeltaWant
	manifest shard.DeltaManifest
	text     []byte // of the manifest
	tier     int
	tally    *transfer.Tally
}

// delta fetches the manifest of the delta of s, to the version that want is of.
func (f *fetching) delta(ctx context.Context, s step, want *offers.Want, tally *transfer.Tally) (d coming, err error) {
	d = coming{step: s, want: want.Delta(s.line), tally: tally}
	bounded, cancel := context.WithTimeoutCause(ctx, deltaPatience, errSilent)
	defer cancel()
	if d.manifest, d.text, d.tier, err = d.want.Manifest(bounded, s.to.Stated.Digest); err != nil {
		return d, fmt.Errorf("fetch its manifest: %w", offers.Named(err))
	}
	return d, nil
}

// bring fetches the shards of d, in the swarm if they have an audience.
func (f *fetching) bring(ctx context.Context, d coming, to Sink, audience Audience) error {
	p, content := f.pool, d.manifest.Content()
	verifier := verify.New(verify.Options{
		Manifest: content, Listed: content.Digest, Signed: true, // its digest is in the version's manifest
		Open: func(s shard.Shard) (verify.Place, error) { return to.Open(s) },
	})
	t := transfer.New(transfer.Options{
		Version: d.to.Entry.Version, Manifest: content, Pinned: true, Sink: to, Audience: audience,
		Verifier: verifier, Get: d.want.Get, Blame: d.want.Refuse, Workers: p.workers(),
		Roster: p.roster, Tally: d.tally, Logger: p.opts.Logger,
	})
	_, err := p.run(ctx, t, peering.PlanOptions{
		Version: d.to.Entry.Version, Base: d.line.Base,
		Digest: content.Digest, Tier: d.tier, Shards: len(content.Shards),
		Want: d.want, Verifier: verifier, Audience: audience, Tally: d.tally,
	})
	return err
}

// watchDelta stops a delta of which nothing comes, or that takes more than most if that is not negative, until ctx
// ends.
func watchDelta(ctx context.Context, received func() int64, most time.Duration, stop context.CancelCauseFunc) {
	begun := time.Now()
	for was := int64(-1); ; {
		now := received()
		switch {
		case now == was:
			stop(errSilent)
			return
		case most >= 0 && time.Since(begun) > most:
			stop(errSlow)
			return
		}
		was = now
		if roster.Sleep(ctx, deltaPatience, nil) != nil {
			return
		}
	}
}
