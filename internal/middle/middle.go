// Package middle follows upstreams: it keeps in a data directory what they
// offer, and serves that. It knows nothing of flags, nor of how bytes travel.
//
// The newest versions on offer are fetched, as many as are to be kept. One that is
// newer than all that are being fetched begins at once, up to four at the same time;
// older ones follow, newest first and one at a time.
//
// A version is listed as soon as its manifest is known, and its shards are passed on
// while they arrive, see package relay; those that somebody asks for are fetched
// first. On the disk it is published only when all of it is there and agrees with its
// digests. It stays listed while its upstreams have trouble, also when this process
// is started again: who reads it waits, and asks again. It is listed no more when its
// bytes are wrong everywhere, or cannot be kept here. Where no upstream has a manifest
// a version is listed when it is published.
//
// In a swarm it swaps shards with others that follow the same upstreams.
//
// What upstreams without a manifest have is served with one that is computed here. A
// file that some know by its SHA-256 and others by its BLAKE3 is the same here as soon as
// it has been fetched once.
//
// A version is retired when no upstream lists it any more
// by what each has said last, or when there are more than to be kept. Nothing is
// retired before every upstream has been heard, or has failed ten times since the
// start; and one that is down, or lists nothing at all, has no say: what is here
// stays. A version whose number comes back with another digest is replaced.
//
// What an earlier run has fetched of a version is checked and used. What it had
// published is listed again at once and checked beside the work; a shard that has
// gone bad on the disk is fetched again.
package middle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// A Middle follows the upstreams of a pool into a data directory.
type Middle struct {
	store    *store.Store
	board    *relay.Board
	pool     *fetch.Pool
	interval time.Duration
	keep     int
	logger   *slog.Logger

	announced announced
	metrics   *metrics.Metrics // those of the server, from when it begins
}

// New returns a Middle that keeps in st the newest keep versions of those that
// pool offers, 1 or more, and asks for them every interval where it is not told.
func New(st *store.Store, pool *fetch.Pool, interval time.Duration, keep int, logger *slog.Logger) *Middle {
	return &Middle{store: st, board: relay.NewBoard(), pool: pool, interval: interval, keep: keep, logger: logger}
}

// Serve follows the upstreams and serves what it has on ln until ctx ends, as opts say,
// whose Catalog, Ready and Logger are not looked at, nor Upstreams in its Status. It returns an error matching [store.ErrInUse] if the directory has another
// server, and otherwise what [server.Serve] does; what goes wrong upstream is
// logged. It closes ln.
func (m *Middle) Serve(ctx context.Context, ln net.Listener, opts server.Options) (err error) {
	release, err := m.store.Claim(ctx)
	if err != nil {
		return errors.Join(server.UnlessOver(ctx, err), ln.Close())
	}
	defer func() { err = errors.Join(err, release()) }()
	// To lock it undoes what a crash has left.
	m.report(ctx, "tidy", m.change(ctx, func(w *store.Writer) error { return w.Trim(m.keep) }))
	m.report(ctx, "read drafts", m.relist())
	m.report(ctx, "read manifests", m.know())
	m.metrics = opts.Metrics
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		opts.Catalog, opts.Logger, opts.Ready = catalog.New(m.store, m.board), m.logger, m.ready
		if opts.Status != nil {
			shown := *opts.Status
			shown.Upstreams = m.upstreams
			opts.Status = &shown
		}
		return server.Serve(ctx, ln, opts)
	})
	group.Go(func() error {
		m.follow(ctx)
		return nil
	})
	if opts.Members != nil {
		group.Go(func() error {
			m.pool.Swarm(ctx, ln.Addr())
			return nil
		})
	}
	return group.Wait()
}

// relist puts on offer again what was arriving when an earlier run ended: who was
// reading it then is not to think that it was retired.
func (m *Middle) relist() error {
	drafts, err := m.store.Drafts()
	for _, d := range drafts {
		manifest, err := d.Manifest()
		if err == nil && !isPlain(manifest) {
			m.board.List(distfile.Entry{Version: d.Version(), Digest: manifest.Digest})
		}
	}
	return err
}

// know tells the pool by which digests upstreams may offer what is held.
func (m *Middle) know() error {
	held, err := m.store.Distribution()
	for _, e := range held {
		if manifest, err := m.manifest(e.Version); err == nil { // what cannot be read is found out by check
			m.pool.Know(e.Version, manifest)
		}
	}
	return err
}

// manifest reads that of v, which is held.
func (m *Middle) manifest(v shard.Version) (shard.Manifest, error) {
	f, err := m.store.Manifest(v)
	if err != nil {
		return shard.Manifest{}, err
	}
	defer f.Close()
	return shard.ParseManifest(f)
}

// mostAtOnce bounds the versions that are fetched at the same time.
const mostAtOnce = 4

// run is what follow knows between two of its steps.
type run struct {
	*Middle

	failed   map[distfile.Entry]error // lately, and why
	fetching map[distfile.Entry]context.CancelCauseFunc
	fetched  chan outcome
	damaged  chan shard.Version // a listed version with a bad shard
}

// outcome is how a fetch has ended.
type outcome struct {
	entry distfile.Entry
	err   error
}

// follow listens, retires and fetches until ctx ends.
func (m *Middle) follow(ctx context.Context) {
	r := &run{
		Middle: m, failed: make(map[distfile.Entry]error), fetching: make(map[distfile.Entry]context.CancelCauseFunc),
		fetched: make(chan outcome), damaged: make(chan shard.Version),
	}
	group, ctx := errgroup.WithContext(ctx)
	defer func() { _ = group.Wait() }()
	group.Go(func() error {
		m.check(ctx, r.damaged)
		return nil
	})
	news := make(chan struct{}, 1)
	group.Go(func() error {
		m.pool.Follow(ctx, m.interval, func() {
			m.announced.hear(m.pool.Offers())
			select {
			case news <- struct{}{}:
			default: // it is known that there are some
			}
		})
		return nil
	})
	ticker := time.NewTicker(m.interval)
	defer ticker.Stop()
	for {
		r.start(ctx, group)
		select {
		case <-ctx.Done():
			for len(r.fetching) > 0 {
				r.finished(ctx, <-r.fetched)
			}
			return
		case <-ticker.C:
			clear(r.failed)
		case <-news:
			// Who has sent wrong bytes is given time.
			maps.DeleteFunc(r.failed, func(_ distfile.Entry, err error) bool { return !errors.Is(err, fetch.ErrIntegrity) })
			r.update(ctx)
		case o := <-r.fetched:
			r.finished(ctx, o)
		case v := <-r.damaged:
			r.report(ctx, "withdraw", r.withdraw(ctx, v))
		}
	}
}

// withdraw has v, which is held, fetched again. It stays on offer meanwhile: those who
// hold it because we list it would retire it.
func (r *run) withdraw(ctx context.Context, v shard.Version) error {
	held, err := r.store.Distribution()
	if err != nil {
		return err
	}
	for _, e := range held {
		if e.Version == v {
			r.board.List(e)
		}
	}
	if err := r.change(ctx, func(w *store.Writer) error { return w.Withdraw(v) }); err != nil {
		r.board.Unlist(v)
		return err
	}
	return nil
}

// update does away with what the upstreams do not offer any more.
func (r *run) update(ctx context.Context) {
	offers := r.pool.Offers()
	if len(offers) == 0 {
		return
	}
	for e, end := range r.fetching {
		if !r.pool.Offered(e) {
			end(notListed{})
		}
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
	over := func(e distfile.Entry) bool {
		replaced := slices.ContainsFunc(offers, func(o distfile.Entry) bool { return o.Version == e.Version && o.Digest != e.Digest })
		return replaced || everyone && !slices.ContainsFunc(offers, e.Same)
	}
	listed, _ := r.board.Listed()
	for _, e := range listed {
		if r.isFetching(e.Version) {
			continue // perhaps by its other digest; else it is over when that has ended
		}
		if over(e) || everyone && !slices.ContainsFunc(offers[max(0, len(offers)-r.keep):], e.Same) {
			r.board.Unlist(e.Version)
		}
	}
	var gone []shard.Version
	for _, e := range held {
		if over(e) {
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
		return !everyone || r.isFetching(v) || slices.ContainsFunc(offers, func(e distfile.Entry) bool { return e.Version == v })
	})
}

// start begins to fetch the newest version that is missing, if none is being fetched
// or all that are being fetched are older.
func (r *run) start(ctx context.Context, group *errgroup.Group) {
	if len(r.fetching) == mostAtOnce || ctx.Err() != nil {
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
	for e := range r.fetching {
		if e.Version >= next.Version {
			return
		}
	}
	r.begin(ctx, group, next)
}

// begin begins to fetch e.
func (r *run) begin(ctx context.Context, group *errgroup.Group, e distfile.Entry) {
	ctx, end := context.WithCancelCause(ctx)
	r.fetching[e] = end
	group.Go(func() error {
		r.fetched <- outcome{e, r.fetch(ctx, e)}
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
		case r.failed[e] != nil:
			continue
		case !slices.ContainsFunc(held, e.Same) && !r.isFetching(e.Version):
			return e, nil
		}
		if kept++; kept == r.keep {
			break
		}
	}
	return distfile.Entry{}, nil
}

// isFetching reports whether v is being fetched, maybe another file of that number:
// then that is to end first.
func (r *run) isFetching(v shard.Version) bool {
	for e := range r.fetching {
		if e.Version == v {
			return true
		}
	}
	return false
}

// finished takes note of how a fetch has ended.
func (r *run) finished(ctx context.Context, o outcome) {
	r.fetching[o.entry](nil)
	delete(r.fetching, o.entry)
	if o.err == nil || ctx.Err() != nil {
		return
	}
	r.failed[o.entry] = o.err
	r.logger.Warn("version not fetched", "version", o.entry.Version.String(), "err", o.err)
	if final(o.err) {
		r.board.Unlist(o.entry.Version)
	}
	r.update(ctx) // what was fetched of it may go now
}

// notListed is why a fetch ends whose version is over. It matches [fetch.ErrNoVersion].
type notListed struct{}

func (notListed) Error() string { return "the upstreams do not list it any more" }

// Is says what it matches.
func (notListed) Is(target error) bool { return target == fetch.ErrNoVersion }

// final reports whether err is no mere trouble of upstreams, after which others are
// better served by somebody else. After such they wait with us.
func final(err error) bool {
	return errors.Is(err, fetch.ErrIntegrity) || errors.Is(err, fetch.ErrNoVersion) ||
		errors.As(err, new(local)) || errors.As(err, new(*fs.PathError))
}

// local is an error of the data directory's.
type local struct{ error }

func (e local) Unwrap() error { return e.error }

// fetch brings e into the data directory.
func (m *Middle) fetch(ctx context.Context, e distfile.Entry) error {
	start := time.Now()
	var to arrival
	defer func() {
		if to.version != nil {
			to.version.End()
		}
	}()
	manifest, went, err := m.pool.Fetch(ctx, fetch.Task{Entry: e, BLAKE3: true, Audience: func() fetch.Audience { return to.version }, Open: func(manifest shard.Manifest, tier int) (fetch.Sink, error) {
		var err error
		if to.draft, err = m.draft(e.Version, manifest); err != nil {
			return nil, local{err}
		}
		board := m.board
		if isPlain(manifest) {
			board = relay.NewBoard() // nobody looks at it: no shard is known to be right before all have come
		}
		// On the disk first: who has been told of the version is to find it listed if this
		// process is killed now and starts again.
		if err := to.draft.SetManifest(known(manifest)); err != nil {
			return nil, local{err}
		}
		listed := distfile.Entry{Version: e.Version, Digest: manifest.Digest} // by its SHA-256, whatever e states
		to.version = board.Begin(listed, manifest, tier, relay.Files(to.draft.Read))
		board.List(listed)
		m.logger.Info("arriving", "version", e.Version.String(), "bytes", manifest.Size, "shards", len(manifest.Shards), "tier", tier)
		return to, nil
	}})
	if err != nil {
		return err
	}
	m.pool.Know(e.Version, manifest)
	if err := m.change(ctx, func(w *store.Writer) error { return w.Publish(to.draft, manifest, m.keep) }); err != nil {
		return local{err}
	}
	m.board.Unlist(e.Version)
	if dur, ok := m.announced.since(e.Version, manifest.Digest, e.Digest); ok {
		m.metrics.Completed(dur)
	}
	m.logger.Info("fetched", "version", e.Version.String(), "bytes", manifest.Size,
		"shards", len(manifest.Shards), "resumed", went.Resumed, "wasted", went.Wasted, "peers", went.Peers, "dur", time.Since(start))
	return nil
}

// draft returns the draft of v, without what is there of another file.
func (m *Middle) draft(v shard.Version, manifest shard.Manifest) (*store.Draft, error) {
	draft, err := m.store.Draft(v)
	if err != nil {
		return nil, err
	}
	if old, err := draft.Manifest(); err == nil && old.Digest != manifest.Digest {
		if err := draft.Discard(); err != nil {
			return nil, err
		}
		if draft, err = m.store.Draft(v); err != nil {
			return nil, err
		}
	}
	return draft, draft.Need(manifest.Size)
}

// isPlain reports whether the digests of m's shards are not known, as where no
// upstream has a manifest and so none tells a date, or have been filled up by known.
func isPlain(m shard.Manifest) bool {
	return len(m.Shards) > 0 && (m.Shards[0] == shard.Digest{} || m.Shards[0] == m.Digest && m.Date.IsZero())
}

// known returns m with digests for all shards. For a later run to know what a draft
// is of, the file's will do.
func known(m shard.Manifest) shard.Manifest {
	m.Shards = slices.Clone(m.Shards)
	for i, digest := range m.Shards {
		if digest == (shard.Digest{}) {
			m.Shards[i] = m.Digest
		}
	}
	return m
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
	manifest, err := m.manifest(v)
	if err != nil {
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
			m.metrics.Mistaken()
			return err
		}
		m.metrics.Verified(1)
	}
	return nil
}

// checkBuffer in bytes is what is read at once to check what is held.
const checkBuffer = 256 << 10
