package middle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// A follower begins and ends fetches and retires versions as a [view] decides. All of its
// methods run in the goroutine of [follower.run].
type follower struct {
	dir      directory
	board    *relay.Board
	pool     *fetch.Pool
	fetch    func(ctx context.Context, e distfile.Entry, headway *fetch.Headway) error
	view     func() (view, error) // without failed
	interval time.Duration
	logger   *slog.Logger

	damaged  chan distfile.Entry // held versions with a bad shard
	arrivals *arrivals
	failed   map[distfile.Entry]error // lately, and why
	ended    chan outcome

	needs  *needs
	needed []distfile.Entry // older versions, beside those to keep

	refused   shard.Version // the newest on offer when a restart was refused last
	refusedAt time.Time
}

// outcome is how a fetch has ended.
type outcome struct {
	entry distfile.Entry
	err   error
}

// newFollower returns the follower of m, which fetches by fetch.
func newFollower(m *Middle, fetch func(ctx context.Context, e distfile.Entry, h *fetch.Headway) error) *follower {
	return &follower{
		dir: m.dir, board: m.board, pool: m.pool, fetch: fetch, view: m.view,
		interval: m.opts.Interval, logger: m.logger,
		damaged: make(chan distfile.Entry), arrivals: &m.arrivals,
		failed: make(map[distfile.Entry]error), ended: make(chan outcome),
		needs: newNeeds(m),
	}
}

// lookEvery is the time between two looks whether arriving versions get on.
const lookEvery = time.Second

// run fetches and retires until ctx ends. News are changes of the offers. It tries failed
// versions again on news and every interval.
func (f *follower) run(ctx context.Context, news <-chan struct{}) {
	var fetches sync.WaitGroup
	defer fetches.Wait()
	fetches.Go(func() { f.needs.run(ctx) })
	f.needs.look()
	ticker := time.NewTicker(f.interval)
	defer ticker.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		if e, ok := f.next(ctx); ok {
			ctx, end := context.WithCancelCause(ctx)
			fetched := f.arrivals.begin(e, end)
			fetches.Go(func() { f.ended <- outcome{e, f.fetch(ctx, e, &fetched.headway)} })
		}
		select {
		case <-ctx.Done():
			for all, _ := f.arrivals.now(); len(all) > 0; all, _ = f.arrivals.now() {
				f.finish(ctx, <-f.ended)
			}
			return
		case <-ticker.C:
			f.forget(func(e distfile.Entry, err error) bool {
				return errors.Is(err, fetch.ErrTooLarge) && f.pool.Offered(e)
			})
			f.needs.look()
		case <-look.C:
		case <-news:
			f.forgive()
			f.dir.report(ctx, "release", f.relay())
			f.dir.report(ctx, "withdraw", f.withdraw(ctx))
			f.update(ctx)
			f.needs.look()
		case f.needed = <-f.needs.found:
		case o := <-f.ended:
			f.finish(ctx, o)
			f.needs.look()
		case e := <-f.damaged:
			f.dir.report(ctx, "reopen", f.reopen(ctx, e))
		}
	}
}

// next returns the version to begin, if there is one. It ends stalled fetches that are too
// many.
func (f *follower) next(ctx context.Context) (distfile.Entry, bool) {
	if ctx.Err() != nil {
		return distfile.Entry{}, false
	}
	v, err := f.view()
	if err != nil {
		f.dir.report(ctx, "read", err)
		return distfile.Entry{}, false
	}
	for _, e := range v.surplus() {
		f.arrivals.end(e, errStalled)
	}
	v.failed, v.needed = f.failed, f.needed
	return v.next()
}

// errStalled ends a fetch that brings next to nothing.
var errStalled = errors.New("it brings next to nothing")

// forgive forgets failures that news may have ended. Wrong bytes do not become right, and a
// server that drips does not hurry: such a version is tried again after the interval.
func (f *follower) forgive() {
	f.forget(func(_ distfile.Entry, err error) bool {
		return errors.Is(err, fetch.ErrIntegrity) || errors.Is(err, fetch.ErrTooLarge) || errors.Is(err, errStalled)
	})
}

// forget forgets failures but those that stay.
func (f *follower) forget(stays func(e distfile.Entry, err error) bool) {
	maps.DeleteFunc(f.failed, func(e distfile.Entry, err error) bool { return !stays(e, err) })
}

// errNotListed ends the fetch of a version that no upstream lists any more.
var errNotListed = fmt.Errorf("%w: the upstreams do not list it any more", fetch.ErrNoVersion)

// update ends fetches, takes versions off the list and retires them as the offers demand.
func (f *follower) update(ctx context.Context) {
	v, err := f.view()
	v.failed, v.needed = f.failed, f.needed
	for _, e := range v.abandoned() {
		f.arrivals.end(e, errNotListed)
	}
	if err != nil {
		f.dir.report(ctx, "retire", err)
		return
	}
	f.lookBack(v)
	for _, number := range v.unlisted() {
		f.board.Unlist(number)
	}
	f.dir.report(ctx, "retire", f.retire(ctx, v))
}

// relay keeps the release of the upstreams, before any version that it lists.
func (f *follower) relay() error {
	text, known := f.pool.Release()
	if !known {
		return nil
	}
	return f.dir.store.RelayRelease(text)
}

// refusedEvery is the time between two warnings that numbers have gone back.
const refusedEvery = time.Hour

// lookBack warns where the versions on offer are older than the held ones, and no upstream
// lists the newest of these.
func (f *follower) lookBack(v view) {
	if !v.isRestart() && (!v.isBehind() || !v.complete || v.offered(v.held[len(v.held)-1])) {
		return
	}
	now := newest(v.offers)
	if now == f.refused && time.Since(f.refusedAt) < refusedEvery {
		return
	}
	f.refused, f.refusedAt = now, time.Now()
	f.logger.Warn("version numbers have gone back", "last", newest(v.held).String(), "newest", now.String(),
		"hint", "nothing held is retired; give --accept-restart if the origin began anew")
}

// retire takes the versions that v retires out of the directory, and unneeded drafts.
func (f *follower) retire(ctx context.Context, v view) error {
	if numbers := v.retired(); len(numbers) > 0 {
		retire := func(w *store.Writer) error { return w.Retire("the upstreams no longer list this file", numbers...) }
		if err := f.dir.change(ctx, retire); err != nil {
			return err
		}
	}
	if len(v.held) > v.keep && v.complete {
		// Some may have been kept beside the others, and count as these do now.
		if err := f.dir.change(ctx, (*store.Writer).Trim); err != nil {
			return err
		}
	}
	return f.dir.store.DiscardDrafts(v.needsDraft)
}

// finish notes the outcome of a fetch. The end of ctx is no failure.
func (f *follower) finish(ctx context.Context, o outcome) {
	f.arrivals.ended(o.entry)
	if o.err == nil || ctx.Err() != nil {
		return
	}
	f.failed[o.entry] = o.err
	if isFinal(o.err) {
		f.board.Unlist(o.entry.Version)
	}
	f.logger.Warn("version not fetched", "version", o.entry.Version.String(), "err", o.err)
	f.update(ctx) // its draft may go now
}

// reopen has e fetched again, if it is still held. The version stays listed meanwhile,
// or nodes that fetched it from here would retire it.
func (f *follower) reopen(ctx context.Context, e distfile.Entry) error {
	if held, err := f.dir.holds(e); err != nil || !held {
		return err
	}
	f.board.List(e)
	if err := f.dir.change(ctx, func(w *store.Writer) error { return w.Reopen(e.Version) }); err != nil {
		f.board.Unlist(e.Version)
		return err
	}
	return nil
}
