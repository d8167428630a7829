// Package fetch is the door to versions on other servers: which ones these offer, their
// manifests, and their shards, concurrently, from the servers that prove fastest. It wires
// the packages that do the work, and refuses to know where the bytes are kept; a [Sink]
// does.
//
//	offers    which versions there are, and by whose word
//	roster    which server may be asked now
//	remote    a range of bytes from one server
//	transfer  the bytes of one version, by one manifest
//	verify    whether they are right, and if not, which server is to blame
//	peering   the same from the peers of a swarm
//	rank      how good each server is
//
// What a caller may lean on: a shard is committed to the sink only when its digest agrees
// with the manifest, and [Pool.Fetch] returns nil only when the digest of the whole file
// agrees with the distribution. Nothing that a server sends is unbounded, followed
// (RFC 9110, section 15.4: redirects are errors here) or used as a name.
//
// docs/design.md follows one shard on its way, and has the constants with their reasons.
package fetch

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/offers"
	"github.com/shardcast/shardcast/internal/peering"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/trust"
	"github.com/shardcast/shardcast/internal/wire"
)

// Errors that the methods of [Pool] return, for callers to tell apart.
var (
	// ErrNoVersion means that no upstream offers the version, or not any more.
	ErrNoVersion = offers.ErrNoVersion

	// ErrIntegrity means that no upstream has the right bytes.
	ErrIntegrity = shard.ErrIntegrity

	// ErrUnreachable means that no upstream answers.
	ErrUnreachable = remote.ErrUnreachable

	// ErrNotTrusted means that servers do not have the word of the publisher whose key is given.
	ErrNotTrusted = trust.ErrNotTrusted

	// ErrExpired means that the publisher's release says nothing about the present any more.
	ErrExpired = trust.ErrExpired

	// ErrTooLarge means that a version is larger than the options allow.
	ErrTooLarge = errors.New("version too large")
)

// Defaults for [Options].
const (
	DefaultTimeout      = wire.DefaultSilence
	DefaultPatience     = 30 * time.Second
	DefaultAttempts     = 5
	DefaultFastAttempts = 3
	DefaultFastWait     = 2 * time.Second
	DefaultSlowWait     = 15 * time.Second
	DefaultConcurrency  = 10

	// DefaultFarConcurrency is that over a long way: where packets are lost, ten connections fill a link to seven
	// tenths, and twenty nearly (docs/benchmarks.md).
	DefaultFarConcurrency = 20
)

// How long [Pool.Refresh] waits for the other upstreams when one has answered.
const (
	Soon = offers.Soon // a second
	All  = offers.All  // as long as they take
)

// Options configure a [Pool]. Only Upstreams is required.
type Options struct {
	// Upstreams are the base URLs of the servers to fetch from, in the order in which
	// they are believed when as many state one thing as another. One with the scheme
	// dns+http or dns+https stands for all servers whose addresses its host has, of which those are
	// believed first that were found first. See [ParseAddress].
	Upstreams []*url.URL

	// Portless are those of Upstreams whose address named no port: while theirs refuses
	// connections, they are asked at port 80.
	Portless []*url.URL

	// MaxSize is the size of the largest version that is fetched, in bytes. Zero means no
	// limit.
	MaxSize int64

	// Timeout is how long an upstream may send nothing. Zero means 30 s.
	Timeout time.Duration

	// Patience is the time over which a fetch has to get on, see [Headway]. Zero means 30 s.
	Patience time.Duration

	// Attempts is how often a shard is requested from all upstreams that have it before
	// the fetch fails. Zero means 5.
	Attempts int

	// FastAttempts is how many attempts are followed by FastWait; later ones are
	// followed by SlowWait. Zero means 3.
	FastAttempts int

	// FastWait is the wait after an early attempt. Zero means 2 s.
	FastWait time.Duration

	// SlowWait is the wait after a later attempt. Zero means 15 s.
	SlowWait time.Duration

	// Concurrency bounds the shards in flight. Zero means 10, and 20 where all servers are 20 ms away or more,
	// by their round trips.
	Concurrency int

	// LimitRate bounds what is received of shards, by all fetches together, in bytes
	// per second. Zero means no limit.
	LimitRate int64

	// Quorum is how many upstreams have to list a version for it to count, if that is more
	// than the rule of package offers asks for, and at most the number of upstreams.
	Quorum int

	// Keeper decides which of the upstreams' releases counts, and that what exists. Nil has what
	// the upstreams list count.
	Keeper *trust.Keeper

	// VerifyStream has the digest of the whole of a signed version computed, although its
	// manifest vouches for each shard.
	VerifyStream bool

	// Releases has upstreams asked for their releases, see [Pool.Release].
	Releases bool

	// RootCAs is that of [remote.Options].
	RootCAs func() *x509.CertPool

	// Identity is shown to upstreams, and to them alone.
	Identity remote.Identity

	// Swarm has fetches with an audience swap shards with peers, see [Pool.Swarm].
	Swarm bool

	// Node is what peers know this node by over TLS, where Swarm is set and an upstream speaks
	// TLS. Otherwise it may be nil.
	Node *peering.Node

	// SwarmAllow is where peers may be that upstreams name, besides where they are
	// allowed to be anyhow, see [swarm.ParsePeers].
	SwarmAllow []netip.Prefix

	// Metrics count what comes, and how the upstreams are. Nil counts nothing.
	Metrics *metrics.Metrics

	// Logger receives one record per shard at debug level, and one per upstream
	// that misbehaves as a warning. Nil discards.
	Logger *slog.Logger
}

// check fills in the defaults.
func (o *Options) check() error {
	if len(o.Upstreams) == 0 {
		return errors.New("no server to fetch from")
	}
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	o.Patience = cmp.Or(o.Patience, DefaultPatience)
	o.Attempts = cmp.Or(o.Attempts, DefaultAttempts)
	o.FastAttempts = cmp.Or(o.FastAttempts, DefaultFastAttempts)
	o.FastWait = cmp.Or(o.FastWait, DefaultFastWait)
	o.SlowWait = cmp.Or(o.SlowWait, DefaultSlowWait)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if min(o.Timeout, o.FastWait, o.SlowWait) < 0 || min(o.Attempts, o.FastAttempts, o.Concurrency) < 0 {
		return fmt.Errorf("a time-out, wait or number of attempts or shards is negative: %v, %v, %v, %d, %d, %d",
			o.Timeout, o.FastWait, o.SlowWait, o.Attempts, o.FastAttempts, o.Concurrency)
	}
	if o.LimitRate < 0 || o.MaxSize < 0 {
		return fmt.Errorf("a limit is negative: %d bytes per second, %d bytes", o.LimitRate, o.MaxSize)
	}
	seen := make(map[string]bool)
	o.Upstreams = slices.DeleteFunc(slices.Clone(o.Upstreams), func(u *url.URL) bool {
		again := seen[u.Redacted()]
		seen[u.Redacted()] = true
		return again
	})
	if o.Quorum < 0 || o.Quorum > len(o.Upstreams) {
		return fmt.Errorf("quorum %d (--quorum): want 0 to %d, the number of servers", o.Quorum, len(o.Upstreams))
	}
	return nil
}

// workers returns how many shards may be in flight of a fetch that begins now.
func (p *Pool) workers() int {
	if p.remote.IsFar() {
		return cmp.Or(p.opts.Concurrency, DefaultFarConcurrency)
	}
	return cmp.Or(p.opts.Concurrency, DefaultConcurrency)
}

func (o *Options) waits() roster.Waits {
	return roster.Waits{FastAttempts: o.FastAttempts, FastWait: o.FastWait, SlowWait: o.SlowWait}
}

// A Pool is a set of upstreams, and what they offer. Its methods may be called from any
// goroutine.
type Pool struct {
	opts   Options
	remote *remote.Client
	roster *roster.Roster
	offers *offers.Offers
	swarm  *peering.Swarm
	inFull measure
}

// system is what a pool has of the machine; tests have others.
type system struct {
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	draw    func() float64
	dial    func(ctx context.Context, network, address string) (net.Conn, error) // nil is the system's
}

// New returns a Pool of opts.Upstreams, of which there must be one or more;
// repeated ones count once.
func New(opts Options) (*Pool, error) {
	return newPool(opts, realSystem())
}

func realSystem() system {
	return system{
		resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
		draw: rand.Float64,
	}
}

func newPool(opts Options, sys system) (*Pool, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	p := &Pool{opts: opts}
	var node *tls.Certificate
	if opts.Node != nil {
		node = &opts.Node.Certificate
	}
	p.remote = remote.New(remote.Options{
		Timeout: opts.Timeout, Connections: cmp.Or(opts.Concurrency, DefaultFarConcurrency), LimitRate: opts.LimitRate,
		RootCAs: opts.RootCAs, Identity: opts.Identity, Node: node, Dial: sys.dial, Portless: opts.Portless,
		Logger: opts.Logger,
	})
	p.roster = roster.New(roster.Options{
		Upstreams: opts.Upstreams, Timeout: opts.Timeout,
		Attempts: opts.Attempts, Waits: opts.waits(),
		Resolve: sys.resolve, Draw: sys.draw,
		Changed: func(others []*remote.Server) { p.offers.Changed(others) },
		Metrics: opts.Metrics, Logger: opts.Logger,
	})
	p.offers = offers.New(offers.Options{
		Quorum: opts.Quorum, Releases: opts.Releases, Keeper: opts.Keeper,
		Timeout: opts.Timeout, Attempts: opts.Attempts, Waits: opts.waits(),
		Remote: p.remote, Roster: p.roster, Metrics: opts.Metrics, Logger: opts.Logger,
	})
	p.swarm = peering.New(peering.Options{
		Remote: p.remote, Roster: p.roster, Allow: opts.SwarmAllow, Node: opts.Node, Logger: opts.Logger,
	})
	names := make([]string, len(opts.Upstreams))
	for i, u := range opts.Upstreams {
		names[i] = u.Redacted()
	}
	opts.Metrics.Follow(names, p.measure)
	return p, nil
}

// Close ends the requests that no caller waits for any more, and closes the
// connections that are kept for later ones.
func (p *Pool) Close() {
	p.offers.Close()
	p.roster.Close()
	p.remote.Close()
}

// Refresh is [offers.Offers.Refresh].
func (p *Pool) Refresh(ctx context.Context, patience time.Duration) error {
	return p.offers.Refresh(ctx, patience)
}

// Expect prepares a fetch of v, or for 0 of a version that is not known yet, before anything is asked: over a long
// way connections are opened ahead, and the manifest of v is asked for beside the versions.
func (p *Pool) Expect(v shard.Version) {
	p.remote.Expect()
	if v != 0 {
		p.offers.Expect(v)
	}
}

// Reach is [offers.Offers.Reach].
func (p *Pool) Reach(ctx context.Context) error { return p.offers.Reach(ctx) }

// Follow is [offers.Offers.Follow].
func (p *Pool) Follow(ctx context.Context, interval time.Duration, news func()) {
	p.offers.Follow(ctx, interval, news)
}

// Offers is [offers.Offers.Offers].
func (p *Pool) Offers() []distfile.Entry { return p.offers.Offers() }

// Count is [offers.Offers.Count].
func (p *Pool) Count(by Taker) Count { return p.offers.Count(by) }

// Elsewhere is [offers.Offers.Elsewhere].
func (p *Pool) Elsewhere(e distfile.Entry, others ...distfile.Entry) bool {
	return p.offers.Elsewhere(e, others...)
}

// Withdrawn is [offers.Offers.Withdrawn].
func (p *Pool) Withdrawn(ctx context.Context, v shard.Version) bool {
	return p.offers.Withdrawn(ctx, v)
}

// Offered is [offers.Offers.Offered].
func (p *Pool) Offered(e distfile.Entry) bool { return p.offers.Offered(e) }

// Answered is [offers.Offers.Answered].
func (p *Pool) Answered() bool { return p.offers.Answered() }

// Release is [offers.Offers.Release].
func (p *Pool) Release() (text []byte, known bool) { return p.offers.Release() }

// Complete is [offers.Offers.Complete].
func (p *Pool) Complete() bool { return p.offers.Complete() }

// Missing is [offers.Offers.Missing].
func (p *Pool) Missing(v shard.Version) error { return p.offers.Missing(v) }

// Unsigned is [offers.Offers.Unsigned].
func (p *Pool) Unsigned() []distfile.Entry { return p.offers.Unsigned() }

// Signed is [offers.Offers.Signed].
func (p *Pool) Signed() bool { return p.offers.Signed() }

// Heard is [offers.Offers.Heard].
func (p *Pool) Heard() bool { return p.offers.Heard() }

// BLAKE3 is [offers.Offers.BLAKE3].
func (p *Pool) BLAKE3(ctx context.Context, m Manifest) (shard.Digest, error) {
	return p.offers.BLAKE3(ctx, m)
}

// Know is [offers.Offers.Know].
func (p *Pool) Know(v shard.Version, m shard.Manifest) { p.offers.Know(v, m) }

// Canonical is [offers.Offers.Canonical].
func (p *Pool) Canonical(e distfile.Entry) distfile.Entry { return p.offers.Canonical(e) }

// Manifest is [offers.Offers.Manifest].
func (p *Pool) Manifest(ctx context.Context, e distfile.Entry) (shard.Manifest, error) {
	return p.offers.Manifest(ctx, e)
}

// Swarm takes part in the swarms of the upstreams until ctx ends: it announces to them
// that peers can reach this node by the port of plain, or of secure where an upstream speaks
// TLS, and asks for peers. Fetches with an audience swap shards with these, if the options say
// Swarm.
func (p *Pool) Swarm(ctx context.Context, plain, secure net.Addr) { p.swarm.Join(ctx, plain, secure) }

// Node is that of the options.
func (p *Pool) Node() *peering.Node { return p.opts.Node }

// A Standing is how an upstream is at one moment, for all fetches together.
type Standing struct {
	// URL is without a password.
	URL string

	// State is one of [Sending], [Idle], [Busy] and [Failing].
	State string

	// Up says that it has listed its versions when it was asked last.
	Up bool

	// Throughput is estimated, in bytes per second of one transfer, and 0 while nothing
	// is known.
	Throughput float64

	// Success is the estimated part of requests that succeed, from 0 to 1. Settled says
	// that any has succeeded or failed.
	Success float64
	Settled bool

	// Newest is the newest version that it lists, or 0.
	Newest shard.Version

	// Release is how its release stands to the newest one, see [offers.Offers.Stands], and
	// Distrust why it is refused. Without a key they are empty.
	Release  string
	Distrust error

	// Err is its last failure, also when a request has succeeded since, and At when that
	// was. Nil means never.
	Err error
	At  time.Time
}

// Standings returns how the upstreams are, in the order in which they were configured. Of
// a name it is how the best of its addresses is, and the last failure of any of them.
func (p *Pool) Standings() []Standing {
	standings := p.roster.Standings()
	all := make([]Standing, len(standings))
	for i, s := range standings {
		all[i] = Standing{
			URL: s.URL, State: s.State, Throughput: s.Throughput,
			Success: s.Success, Settled: s.Settled, Err: s.Err, At: s.At,
		}
		for _, server := range s.Servers {
			up, newest := p.offers.Listed(server)
			all[i].Up, all[i].Newest = all[i].Up || up, max(all[i].Newest, newest)
			if release, refused := p.offers.Stands(server); all[i].Distrust == nil {
				all[i].Release, all[i].Distrust = release, refused
			}
		}
	}
	return all
}

// measure returns the same for the metrics.
func (p *Pool) measure() []metrics.Upstream {
	all := make([]metrics.Upstream, 0, len(p.opts.Upstreams))
	for _, s := range p.Standings() {
		all = append(all, metrics.Upstream{
			Throughput: s.Throughput, Success: s.Success, Up: s.Up, Newest: int64(s.Newest),
		})
	}
	return all
}
