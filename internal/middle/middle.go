// Package middle keeps the newest versions of its upstreams in a data directory, and
// serves them. It decides which versions to fetch, to list and to retire. It refuses to
// know flags, HTTP, and how bytes travel.
//
// Fetching. The middle keeps the newest versions on offer, as many as its data directory says. A version
// newer than all that are arriving begins at once, up to four at the same time; older
// ones follow, newest first and one at a time. A version that failed is tried again later,
// and an older one is kept in its place. The middle verifies and uses shards from an
// earlier run. In a swarm it swaps shards with its peers.
//
// Listing. The middle lists a version as soon as it has its manifest, and passes shards on
// while they arrive, see package relay; shards that readers wait for come first. It goes
// on listing the version while the upstreams have trouble, and after a restart, so readers
// wait and ask again. It takes the version off the list when its bytes are wrong
// everywhere, or the data directory cannot hold it. If no upstream has a manifest, the
// middle computes one, and lists the version once it is whole. Upstreams may list one file by
// its SHA-256 and by its BLAKE3; the middle knows that once it has fetched the file.
//
// Retiring. The middle retires a version that no upstream lists in its last answer, and
// the oldest beyond the number to keep. It waits until every upstream has answered, or has
// failed ten times since the start. An upstream that is down counts with its last answer;
// offers without any version retire nothing. If the number of a version comes back with
// another digest, the middle replaces the version. A version that it fetches again stays
// listed meanwhile.
//
// Checking. At the start the middle verifies all versions that it holds, while it serves
// them, and fetches damaged shards again.
//
// A caller may lean on this: the data directory lists a version only when all of its
// shards match the manifest, and whatever a reader has seen listed is listed again after
// a crash.
package middle

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/store"
)

// A Middle follows the upstreams of a pool into a data directory, and serves it.
type Middle struct {
	dir      directory
	board    *relay.Board
	pool     *fetch.Pool
	interval time.Duration
	keep     int // versions, for the settings of the directory, or 0
	logger   *slog.Logger
}

// New returns a Middle that keeps in st the newest versions that the upstreams of pool offer.
// Serve makes keep the number of versions that the directory keeps, see [store.Settings]; 0
// leaves that number as it is. The middle asks upstreams that do not hold requests back every
// interval.
func New(st *store.Store, pool *fetch.Pool, interval time.Duration, keep int, logger *slog.Logger) *Middle {
	st.LogTo(logger)
	dir := directory{store: st, logger: logger}
	return &Middle{dir: dir, board: relay.NewBoard(), pool: pool, interval: interval, keep: keep, logger: logger}
}

// Serve follows the upstreams, and serves on ln by opts, until ctx ends. It sets the
// Catalog, Ready and Logger of opts, and the Upstreams of its Status. It logs failures of
// upstreams and of the data directory, and tries again. It returns an error matching
// [store.ErrInUse] if the directory has another server, and otherwise that of
// [server.Serve]. It closes ln.
func (m *Middle) Serve(ctx context.Context, ln net.Listener, opts server.Options) (err error) {
	release, err := m.dir.store.Claim(ctx)
	if err != nil {
		return errors.Join(server.UnlessOver(ctx, err), ln.Close())
	}
	defer func() { err = errors.Join(err, release()) }()
	// The first lock finishes or undoes the change that a crash interrupted.
	m.dir.report(ctx, "settings", m.dir.store.Keep(ctx, m.keep))
	m.dir.report(ctx, "tidy", m.dir.change(ctx, (*store.Writer).Trim))
	m.patiently(ctx, "read drafts", m.relist)
	m.patiently(ctx, "read manifests", m.know)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(ctx, ln, m.serving(opts)) })
	group.Go(func() error {
		m.follow(ctx, opts.Metrics)
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

// serving returns opts with the parts that this middle sets.
func (m *Middle) serving(opts server.Options) server.Options {
	opts.Catalog, opts.Logger, opts.Ready = catalog.New(m.dir.store, m.board), m.logger, m.ready
	if opts.Status != nil {
		shown := *opts.Status
		shown.Upstreams = m.upstreams
		opts.Status = &shown
	}
	return opts
}

// patiently does task by f, again a few times while it fails: a manifest that is not read at
// the start costs a version its place on the list, or the file that it is known by.
func (m *Middle) patiently(ctx context.Context, task string, f func() error) {
	err := f()
	for tries := 1; err != nil && tries < startTries && pause(ctx, startPause); tries++ {
		err = f()
	}
	m.dir.report(ctx, task, err)
}

const (
	// startTries is how often a middle tries to read its directory at the start, and
	// startPause the time between two tries. It serves nothing meanwhile.
	startTries = 5
	startPause = time.Second
)

// relist lists the versions again that were arriving when an earlier run ended, or their
// readers would take them for retired.
func (m *Middle) relist() error {
	drafts, err := m.dir.store.Drafts()
	for _, d := range drafts {
		manifest, bad := d.Manifest()
		switch {
		case bad == nil && !isPlain(manifest):
			m.board.List(distfile.Entry{Version: d.Version(), Digest: manifest.Digest})
		case bad != nil && !isWrong(bad):
			err = errors.Join(err, bad)
		}
	}
	return err
}

// know gives the pool both digests of each held version, as upstreams may list either.
func (m *Middle) know() error {
	held, err := m.dir.store.Distribution()
	for _, e := range held {
		manifest, bad := m.dir.manifest(e.Version)
		switch {
		case bad == nil:
			m.pool.Know(e.Version, manifest)
		case !isWrong(bad): // the checker finds a manifest that is damaged
			err = errors.Join(err, bad)
		}
	}
	return err
}

// follow keeps the data directory in step with the upstreams until ctx ends.
func (m *Middle) follow(ctx context.Context, counts *metrics.Metrics) {
	var seen announced
	single := &fetcher{
		dir: m.dir, board: m.board, pool: m.pool, announced: &seen, metrics: counts, logger: m.logger,
	}
	f := newFollower(m, single.fetch)
	news := make(chan struct{}, 1)
	look := func() {
		select {
		case news <- struct{}{}:
		default: // the follower has yet to look at earlier news
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		checker{dir: m.dir, metrics: counts, logger: m.logger}.check(ctx, f.damaged)
		return nil
	})
	group.Go(func() error {
		m.pool.Follow(ctx, m.interval, func() {
			seen.note(m.pool.Offers())
			look()
		})
		return nil
	})
	group.Go(func() error {
		m.dir.store.FollowSettings(ctx, func(ctx context.Context) error {
			defer look() // there may be more to fetch
			return m.dir.change(ctx, (*store.Writer).Trim)
		})
		return nil
	})
	f.run(ctx, news)
	_ = group.Wait()
}
