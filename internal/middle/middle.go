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
// Retiring. The middle retires the oldest beyond the number to keep, and a version that no
// upstream lists in its last answer. It waits until every upstream has answered, or has
// failed ten times since the start. An upstream that is down counts with its last answer;
// offers without any version retire nothing, nor do offers that are all older than the
// newest version held, unless a restart is accepted. Versions that only the second of two
// upstreams lists take no places: as many are kept beside the others. If the number of a
// version comes back with another digest, the middle replaces the version when the other
// file is here. A version that it fetches again stays listed meanwhile.
//
// Withdrawing. A version that is here and that no upstream lists goes at once if more than half of
// them say that it was withdrawn, also the newest, and the middle says the same.
//
// Relaying. The release of the publisher, release.txt, goes on as the bytes that came: the one that
// most upstreams serve that answer.
//
// Signing. With a key the newest valid release of the publisher says which versions there are: the
// middle keeps these alone, whatever the upstreams list, and relays that release. When that has
// expired, the middle goes on.
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

// Options configure a [Middle]. Interval and Logger are required.
type Options struct {
	// Interval is the time between two questions to upstreams that do not hold requests back,
	// and the wait after a failed fetch.
	Interval time.Duration

	// Keep becomes the number of versions that the directory keeps, see [policy.Settings].
	// Zero leaves that number as it is.
	Keep int

	// AcceptRestart lets version numbers go back when the origin has started over, and run
	// any distance ahead.
	AcceptRestart bool

	// Swarm has the middle swap shards with the peers that its upstreams name.
	Swarm bool

	// Logger receives the log.
	Logger *slog.Logger
}

// A Middle follows the upstreams of a pool into a data directory, and serves it.
type Middle struct {
	opts     Options
	dir      directory
	board    *relay.Board
	pool     *fetch.Pool
	arrivals arrivals
	logger   *slog.Logger

	questions questions
}

// New returns a Middle that keeps in st the newest versions that count by the upstreams of
// pool, see package offers.
func New(st *store.Store, pool *fetch.Pool, opts Options) *Middle {
	st.LogTo(opts.Logger)
	m := &Middle{
		opts: opts, dir: directory{store: st, logger: opts.Logger}, board: relay.NewBoard(), pool: pool,
		logger: opts.Logger,
	}
	st.Beside(func() []distfile.Entry { return pool.Count(fetch.Taker{}).Alone })
	return m
}

// count returns the versions that count for what is held.
func (m *Middle) count(held []distfile.Entry) fetch.Count {
	by := fetch.Taker{AnyNumber: m.opts.AcceptRestart}
	if len(held) > 0 {
		by.Highest = newest(held)
	}
	return m.pool.Count(by)
}

// view returns the state of affairs, but for failures.
func (m *Middle) view() (view, error) {
	// Before the count, which has the answer of every upstream then.
	complete := m.pool.Complete()
	listed, _ := m.board.Listed()
	held, err := m.dir.store.Distribution()
	settings, bad := m.dir.store.Settings()
	count := m.count(held)
	arriving, stalled := m.arrivals.now()
	return view{
		keep: settings.MaxVersions, acceptRestart: m.opts.AcceptRestart || count.Epoch > 0, signed: count.Epoch > 0,
		doubt:  count.Err,
		offers: count.Entries, alone: count.Alone, offered: m.pool.Offered, elsewhere: m.pool.Elsewhere,
		complete: complete, held: held, listed: listed, arriving: arriving, stalled: stalled,
	}, errors.Join(err, bad)
}

// Serve follows the upstreams, and serves on ln by opts, until ctx ends. It sets the
// Catalog, Ready, Withdrawn and Logger of opts, and the Upstreams of its Status. It logs failures of
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
	m.dir.report(ctx, "settings", m.dir.store.Keep(ctx, m.opts.Keep))
	m.dir.report(ctx, "tidy", m.trim(ctx))
	m.patiently(ctx, "read drafts", m.relist)
	m.patiently(ctx, "read manifests", m.know)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(ctx, ln, m.serving(opts)) })
	group.Go(func() error {
		m.follow(ctx, opts.Metrics)
		return nil
	})
	if m.opts.Swarm {
		group.Go(func() error {
			m.pool.Swarm(ctx, plainAddr(ln, opts), secureAddr(opts))
			return nil
		})
	}
	return group.Wait()
}

// plainAddr returns where peers reach a server at ln by plain HTTP, or nil.
func plainAddr(ln net.Listener, opts server.Options) net.Addr {
	if opts.TLS != nil || opts.Tokens != nil {
		return nil
	}
	return ln.Addr()
}

// secureAddr returns where they reach it by TLS, or nil.
func secureAddr(opts server.Options) net.Addr {
	if opts.Nodes == nil {
		return nil
	}
	return opts.Nodes.Listener.Addr()
}

// serving returns opts with the parts that this middle sets.
func (m *Middle) serving(opts server.Options) server.Options {
	opts.Catalog, opts.Logger, opts.Ready = catalog.New(m.dir.store, m.board), m.logger, m.ready
	opts.Withdrawn = m.isWithdrawn
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

// trim retires the versions beyond those to keep. Before two upstreams have said what they
// list it is not known which versions are kept beside the others.
func (m *Middle) trim(ctx context.Context) error {
	trim := (*store.Writer).Trim
	if len(m.pool.Standings()) == 2 && !m.pool.Heard() {
		trim = func(*store.Writer) error { return nil }
	}
	return m.dir.change(ctx, trim)
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
		m.pool.Follow(ctx, m.opts.Interval, func() {
			seen.note(m.pool.Offers())
			look()
		})
		return nil
	})
	group.Go(func() error {
		m.dir.store.FollowSettings(ctx, func(ctx context.Context) error {
			defer look() // there may be more to fetch
			return m.trim(ctx)
		})
		return nil
	})
	f.run(ctx, news)
	_ = group.Wait()
}
