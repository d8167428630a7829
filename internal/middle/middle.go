// Package middle follows upstreams: it keeps in a data directory what they
// offer, and serves that. It knows nothing of flags, nor of how bytes travel.
//
// The newest versions on offer are fetched, newest first and one at a time, as
// many as are to be kept. A version is listed here when all of it is here and
// agrees with its digests. It is retired when no upstream lists it any more by
// what each has said last, or when there are more than to be kept. Nothing is
// retired before every upstream has been heard, or has failed ten times since the
// start; and one that is down, or lists nothing at all, has no say: what is here
// stays. A version whose number comes back with another digest is replaced.
//
// What an earlier run has fetched of a version is checked and used. What it had
// listed is listed again at once and checked beside the work; a shard that has
// gone bad on the disk is fetched again.
package middle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// A Middle follows the upstreams of a pool into a data directory.
type Middle struct {
	store    *store.Store
	pool     *fetch.Pool
	interval time.Duration
	keep     int
	logger   *slog.Logger
}

// New returns a Middle that keeps in st the newest keep versions of those that
// pool offers, 1 or more, and asks for them every interval.
func New(st *store.Store, pool *fetch.Pool, interval time.Duration, keep int, logger *slog.Logger) *Middle {
	return &Middle{store: st, pool: pool, interval: interval, keep: keep, logger: logger}
}

// Serve follows the upstreams and serves what it has on ln, within limits, until
// ctx ends. It returns an error matching [store.ErrInUse] if the directory has another
// server, and otherwise what [server.Serve] does; what goes wrong upstream is
// logged. It closes ln.
func (m *Middle) Serve(ctx context.Context, ln net.Listener, limits server.Limits) (err error) {
	release, err := m.store.Claim(ctx)
	if err != nil {
		return errors.Join(server.UnlessOver(ctx, err), ln.Close())
	}
	defer func() { err = errors.Join(err, release()) }()
	// To lock it undoes what a crash has left.
	m.report(ctx, "tidy", m.change(ctx, func(w *store.Writer) error { return w.Trim(m.keep) }))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(ctx, ln, m.store, limits, m.logger) })
	group.Go(func() error {
		m.follow(ctx)
		return nil
	})
	return group.Wait()
}

// run is what follow knows between two of its steps.
type run struct {
	*Middle

	failed  map[distfile.Entry]bool // since the upstreams were last asked
	current distfile.Entry          // being fetched, or zero
	cancel  context.CancelCauseFunc // ends the fetch of current
	fetched chan error              // how it ended
	damaged chan shard.Version      // a listed version with a bad shard
}

// follow asks, retires and fetches until ctx ends.
func (m *Middle) follow(ctx context.Context) {
	r := &run{Middle: m, failed: make(map[distfile.Entry]bool), fetched: make(chan error), damaged: make(chan shard.Version)}
	group, ctx := errgroup.WithContext(ctx)
	defer func() { _ = group.Wait() }()
	group.Go(func() error {
		m.check(ctx, r.damaged)
		return nil
	})
	ticker := time.NewTicker(m.interval)
	defer ticker.Stop()
	r.ask(ctx)
	for {
		r.start(ctx, group)
		select {
		case <-ctx.Done():
			if r.cancel != nil {
				r.finished(ctx, <-r.fetched)
			}
			return
		case <-ticker.C:
			r.ask(ctx)
		case err := <-r.fetched:
			r.finished(ctx, err)
		case v := <-r.damaged:
			r.report(ctx, "withdraw", r.change(ctx, func(w *store.Writer) error { return w.Withdraw(v) }))
		}
	}
}

// ask asks the upstreams what they offer, and does away with what they do not.
func (r *run) ask(ctx context.Context) {
	clear(r.failed)
	if err := r.pool.Refresh(ctx, fetch.Soon); err != nil {
		if ctx.Err() == nil {
			r.logger.Warn("upstreams not followed", "err", err)
		}
		return
	}
	offers := r.pool.Offers()
	if len(offers) == 0 {
		return
	}
	if r.cancel != nil && !slices.ContainsFunc(offers, r.current.Same) {
		r.cancel(fmt.Errorf("%w: the upstreams do not list it any more", fetch.ErrNoVersion))
	}
	r.report(ctx, "retire", r.retire(ctx, offers))
}

// retire takes away what is not among offers.
func (r *run) retire(ctx context.Context, offers []distfile.Entry) error {
	held, err := r.store.Distribution()
	if err != nil {
		return err
	}
	everyone := r.pool.Heard()
	var gone []shard.Version
	for _, e := range held {
		replaced := slices.ContainsFunc(offers, func(o distfile.Entry) bool { return o.Version == e.Version && o.Digest != e.Digest })
		if replaced || everyone && !slices.ContainsFunc(offers, e.Same) {
			gone = append(gone, e.Version)
		}
	}
	if len(gone) > 0 {
		if err := r.change(ctx, func(w *store.Writer) error { return w.Retire(gone...) }); err != nil {
			return err
		}
		r.logger.Info("retired", "versions", fmt.Sprint(gone))
	}
	return r.store.DiscardDrafts(func(v shard.Version) bool {
		return !everyone || v == r.current.Version || slices.ContainsFunc(offers, func(e distfile.Entry) bool { return e.Version == v })
	})
}

// start begins to fetch the newest version that is missing, unless one is being
// fetched.
func (r *run) start(ctx context.Context, group *errgroup.Group) {
	if r.cancel != nil || ctx.Err() != nil {
		return
	}
	next, err := r.next()
	if err != nil {
		r.report(ctx, "read", err)
		return
	}
	if next == (distfile.Entry{}) {
		return
	}
	ctx, r.cancel = context.WithCancelCause(ctx)
	r.current = next
	group.Go(func() error {
		r.fetched <- r.fetch(ctx, next)
		return nil
	})
}

// next returns the newest of the versions to keep that is missing, or nothing.
// One that has failed does not count, and an older one is kept in its place.
func (r *run) next() (distfile.Entry, error) {
	held, err := r.store.Distribution()
	if err != nil {
		return distfile.Entry{}, err
	}
	kept := 0
	for _, e := range slices.Backward(r.pool.Offers()) {
		switch {
		case r.failed[e]:
			continue
		case !slices.ContainsFunc(held, e.Same):
			return e, nil
		}
		if kept++; kept == r.keep {
			break
		}
	}
	return distfile.Entry{}, nil
}

// finished takes note of how a fetch has ended.
func (r *run) finished(ctx context.Context, err error) {
	if err != nil {
		r.failed[r.current] = true
		if ctx.Err() == nil {
			r.logger.Warn("version not fetched", "version", r.current.Version.String(), "err", err)
		}
	}
	r.cancel(nil)
	r.cancel, r.current = nil, distfile.Entry{}
}

// fetch brings e into the data directory.
func (m *Middle) fetch(ctx context.Context, e distfile.Entry) error {
	start := time.Now()
	var draft *store.Draft
	manifest, went, err := m.pool.Fetch(ctx, fetch.Task{Entry: e, Open: func(manifest shard.Manifest) (fetch.Sink, error) {
		var err error
		draft, err = m.begin(e.Version, manifest)
		return keeper{draft}, err
	}})
	if err != nil {
		return err
	}
	if err := m.change(ctx, func(w *store.Writer) error { return w.Publish(draft, manifest, m.keep) }); err != nil {
		return err
	}
	m.logger.Info("fetched", "version", e.Version.String(), "bytes", manifest.Size,
		"shards", len(manifest.Shards), "resumed", went.Resumed, "wasted", went.Wasted, "dur", time.Since(start))
	return nil
}

// begin returns the draft of v, without what is there of another file.
func (m *Middle) begin(v shard.Version, manifest shard.Manifest) (*store.Draft, error) {
	draft, err := m.store.Draft(v)
	if err != nil {
		return nil, err
	}
	if old, err := draft.Manifest(); err != nil || old.Digest != manifest.Digest {
		if err := draft.Discard(); err != nil {
			return nil, err
		}
		if draft, err = m.store.Draft(v); err != nil {
			return nil, err
		}
	}
	if err := draft.Need(manifest.Size); err != nil {
		return nil, err
	}
	// Where no upstream has a manifest the shards' digests are not known yet. For a
	// later run to know what the draft is of, the file's will do.
	manifest.Shards = slices.Clone(manifest.Shards)
	for i, digest := range manifest.Shards {
		if digest == (shard.Digest{}) {
			manifest.Shards[i] = manifest.Digest
		}
	}
	return draft, draft.SetManifest(manifest)
}

// change makes a change to the data directory as its one writer.
func (m *Middle) change(ctx context.Context, f func(w *store.Writer) error) error {
	w, err := m.store.Lock(ctx)
	if err != nil {
		return err
	}
	return errors.Join(f(w), w.Unlock())
}

// report logs that the data directory has failed at task, unless that is just
// the end of ctx.
func (m *Middle) report(ctx context.Context, task string, err error) {
	if err != nil && ctx.Err() == nil {
		m.logger.Error("data directory failed", "task", task, "err", err)
	}
}

// keeper is a draft as the fetcher wants it.
type keeper struct{ draft *store.Draft }

// Open opens a shard of the draft.
func (k keeper) Open(s shard.Shard) (fetch.Place, error) {
	f, err := k.draft.Open(s.Number)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() > s.Size {
		err = f.Truncate(s.Size) // by another manifest it was longer
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return place{f, s.Size}, nil
}

// place is a shard's file.
type place struct {
	*os.File

	size int64
}

// Written returns what is there.
func (p place) Written() ([]disk.Range, error) { return disk.Written(p.File, 0, p.size) }

// Commit writes the shard through to the disk.
func (p place) Commit() error { return p.Sync() }

// check reads all that was listed when it was called, the newest version first,
// and sends those that do not agree with their manifest to damaged.
func (m *Middle) check(ctx context.Context, damaged chan<- shard.Version) {
	held, err := m.store.Distribution()
	m.report(ctx, "check", err)
	for _, e := range slices.Backward(held) {
		err := m.checkVersion(ctx, e.Version)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, fs.ErrNotExist) && !m.lists(e) {
			continue // retired meanwhile
		}
		if err == nil {
			m.logger.Debug("held version is right", "version", e.Version.String())
			continue
		}
		m.logger.Warn("held version is fetched again", "version", e.Version.String(), "err", err)
		select {
		case damaged <- e.Version:
		case <-ctx.Done():
			return
		}
	}
}

func (m *Middle) lists(e distfile.Entry) bool {
	held, err := m.store.Distribution()
	return err == nil && slices.ContainsFunc(held, e.Same)
}

// checkVersion reads the shards of v.
func (m *Middle) checkVersion(ctx context.Context, v shard.Version) error {
	f, err := m.store.Manifest(v)
	if err != nil {
		return err
	}
	manifest, err := shard.ParseManifest(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	buf := make([]byte, checkBuffer)
	for number := 1; number <= len(manifest.Shards) && ctx.Err() == nil; number++ {
		f, done, err := m.store.Shard(v, number)
		if err != nil {
			return err
		}
		err = errors.Join(manifest.Shard(number).Verify(f, buf), f.Close())
		done()
		if err != nil {
			return err
		}
	}
	return nil
}

// checkBuffer in bytes is what is read at once to check what is held.
const checkBuffer = 256 << 10
