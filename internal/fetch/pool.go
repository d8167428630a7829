// Package fetch gets versions from upstreams over HTTP: which ones they offer,
// their manifests, and their shards, concurrently, from the upstreams that prove
// fastest. It knows nothing of where the bytes are kept; a [Sink] does.
//
// What a caller may lean on: a shard is committed to the sink only when its
// digest agrees with the manifest, and [Pool.Fetch] returns nil only when the
// digest of the whole file agrees with the distribution. Nothing that an
// upstream sends is unbounded, followed (RFC 9110, section 15.4: redirects are
// errors here) or used as a name.
//
// # Choosing
//
// Each request goes to an upstream drawn in proportion to throughput × success,
// see [Ranking], of those that are good and have nothing to do if there are any. A
// request that fails is repeated with the others first; when all have failed that is
// one attempt, and the next is made after a wait (2 s for the first ones, 15 s
// later, each up to a quarter shorter or longer, so that those who failed together
// do not come back together). One that brought 64 KiB before it failed, or a quarter
// of what it asked for, is no attempt: it is continued at once. An upstream that
// answers 503 or 429 with Retry-After (RFC 9110, section 10.2.3) is not asked before
// that time, up to 10 min, which is made up to a half longer; what it is sending
// us meanwhile it may go on with, and every 2 s one more is tried. Such waits are no
// attempts either, unless nothing has come from anybody for 10 min. One that
// answers 404 is asked for its distribution, since the version may have been
// retired. Upstreams that are down are asked again every 10 s, and so
// are those that do not offer the version; of these a client asks after 1, 2, 4 and 8 s, too,
// for they may be about to.
//
// # Continuing
//
// A shard is brought in spans, at first one. What a transfer has brought of its
// span stays, and the next one asks for the rest (RFC 9110, section 14), whichever
// upstream it is from; from an upstream that knows no ranges it skips what is
// there. So it is with what an earlier fetch has left in the sink: it is used if the
// shard is right in the end.
//
// # Order
//
// Shards are begun in ascending order, but those that somebody waits for who reads them
// here while they arrive (see [Sink]) before all others; while he does, no more than two
// are brought that nobody has waited for. So a chain runs in step, each tier asking for
// what the one before has just got, and middles side by side spend their upstream's rate
// on what the clients of each have asked of it. Measured with make bench-chain ARGS='-size
// 256MB -shards 64 -rounds 1 -parts chain,fanout', in multiples of the size divided by the
// origin's rate, once each, on two busy cores:
//
//	                               3 middles in line    2 side by side, 1 client
//	ascending                      1.00                 1.92
//	ascending, two unasked         1.01                 1.60
//	random                         1.14                 1.54
//	random, two unasked            1.17                 1.48
//
// Random orders keep the tiers of a chain out of step. Clients of several middles
// would be served best if no shard came to two of these before all had come to one.
//
// # Not waiting
//
// All transfers are looked at four times a second. One is abandoned and its span
// continued, by another upstream if there is one, else over a fresh connection,
//
//   - when nothing has come for the time-out (30 s), or less than 64 bytes a second
//     over that time; this goes for all else that is asked, too;
//   - when in the last 5 s it brought less than a tenth of what it used to bring
//     before, or of what transfers from other upstreams bring, among those under way
//     and the last 8 finished ones; if none of these is from another upstream, all
//     are compared with. Of each the median counts. A span that was abandoned for
//     this is given twice the time before it is again, up to 160 s.
//
// While all workers are busy and a good upstream is idle, the transfer that takes
// longest, of one that has several, is moved to it when it has lasted 2 s and will
// last 2 s more.
//
// When all shards are begun, a worker that has nothing to do helps the transfer
// that takes longest, if that is half a second or more at its speed: it takes over
// the end of its span, as much as makes both be done at the same time, by another
// upstream if there is one. Where less than 128 KiB are left it asks for all of them
// too, if it is expected to be twice as fast: then who comes first wins, and what
// races may bring twice is bounded by 5 % of the file.
//
// # Following
//
// [Pool.Follow] asks each upstream again and again, independently of the others, and
// of the questions that all else asks. Once it has a distribution with an ETag, it
// asks for another one with If-None-Match and Prefer: wait=55 (RFC 7240, section
// 4.3), below the 60 s at which common proxies cut. Where the answer says
// Preference-Applied, it has come when there was something new, or after the wait,
// and the next question is asked at once; after 50 answers in a row, though, four
// times a second at most. After one that took less than a second and brought nothing
// it is asked half a second later, then a second, and so on up to 30 s or the
// interval. Where the answer does not say it, the
// upstream is polled every interval, without the ETag, since a web server's can be
// the same for two texts of one second; it is asked to wait again after 10 min, and
// after a failure.
//
// A question that waited for 2 s or more and then ended without an answer, or by 502,
// 504 or 408, no later than 3 s after its wait, is no failure: somebody on the way
// cuts. It is asked again after up to a second with half the wait, down to 5 s; when
// that was cut too, the upstream is polled. Every 10 min twice the wait is tried, up
// to 55 s. Any other failure of a question that waits halves the wait as well. Beyond
// its wait a question is given the time-out.
//
// An upstream that fails is asked again after 1 s, 2 s, 4 s and so on up to 30 s or
// the interval, whichever is less, and not before Retry-After, which is made up to a
// half longer; at first not to wait, for it to be known soon that it is back. All
// these pauses but the interval are made up to a quarter shorter or longer.
//
// What was asked to be sent at once is not believed if something else has come since
// it was asked: that may be newer.
//
// # Names
//
// The addresses of a dns+http:// URL's host are upstreams of their own. They are looked
// up every 5 s while somebody follows, and before upstreams are asked for what they
// offer at once. New ones are asked at once, and those that are missing not any more; what
// they are sending may go on. When there are none at all, the last ones stay.
//
// # Swarms
//
// Where [Options] say so, what is relayed is swapped with the nodes that [Pool.Swarm] finds,
// of which each fetch has 16 at most. What it takes next from whom is said by package swarm
// and docs/protocol.md. They are no upstreams: what is on offer, and all digests, come from
// those, and what peers do wrong costs time and no more. Nobody is given up there for being
// slow, but when next to nothing comes from all of them, or at the end.
//
// # Checking
//
// A relay, and a fetch of what only has digests of other kinds, check each shard when all
// of it has come, and compute the file's digests behind. Anybody else checks shards in
// their order, in the one pass that the file's digest takes anyhow ([shard.Sums]): a shard
// that is wrong is found when all before it have come. Of each upstream the first shard is
// checked at once, and until that has been done nobody who has brought one of its shards
// asks for another.
//
// # Blame
//
// An upstream whose bytes do not agree with a shard's digest or size is named in
// the log and not asked again in that fetch, unless its distribution has changed
// meanwhile. Where several upstreams, or an earlier fetch, have brought a part of
// the wrong shard, it is brought once more by one alone; if it is right then, those
// whose bytes differ from it are to blame. A manifest that the bytes do not fit is
// dropped, its upstream named, and all is begun again by the manifest of another
// one.
//
// # Dialects
//
// A distribution does not say whether a digest is the file's SHA-256 or its BLAKE3, so
// where there is no manifest both are computed, and either may agree. A shard that is
// missing under the name with three digits is asked for under that with five, unless
// the upstream has a manifest. Where upstreams state different digests of a version, one
// is believed, see [Pool.Offers], and the other upstreams are left out for that version.
//
// A shard whose digest the manifest has is asked for with ?digest= and that, so that a
// cache on the way takes no file for another one that had its number. Servers that do
// not know it send the same.
//
// Where no upstream has a manifest, the number of shards is what the distribution
// states, or those before the first that is missing; their size is the first one's.
// Of upstreams that differ in this most are believed, and of as many those that have
// more, the others later. The digests of shards are not known until all have come. If
// then the file is wrong, it is fetched from each upstream alone, in turn.
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
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/shardcast/shardcast/internal/bucket"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/swarm"
)

// Errors that the methods of [Pool] return, for callers to tell apart.
var (
	// ErrNoVersion means that no upstream offers the version, or not any more.
	ErrNoVersion = errors.New("no such version")

	// ErrIntegrity means that no upstream has the right bytes.
	ErrIntegrity = errors.New("integrity failure")

	// ErrUnreachable means that no upstream answers.
	ErrUnreachable = errors.New("no server reachable")
)

// Defaults for [Options].
const (
	DefaultTimeout      = 30 * time.Second
	DefaultAttempts     = 5
	DefaultFastAttempts = 3
	DefaultFastWait     = 2 * time.Second
	DefaultSlowWait     = 15 * time.Second
	DefaultConcurrency  = 10
)

// Options configure a [Pool]. Only Upstreams is required.
type Options struct {
	// Upstreams are the base URLs of the servers to fetch from, in the order in
	// which they are believed when as many say one thing as another. One with the
	// scheme dns+http stands for all servers whose addresses its host has, of which
	// those are believed first that were found first. See [ParseAddress].
	Upstreams []*url.URL

	// Timeout is how long an upstream may send nothing. Zero means 30 s.
	Timeout time.Duration

	// Attempts is how often a shard is asked of all upstreams that have it before
	// the fetch fails. Zero means 5.
	Attempts int

	// FastAttempts is how many attempts are followed by FastWait; later ones are
	// followed by SlowWait. Zero means 3.
	FastAttempts int

	// FastWait is the wait after an early attempt. Zero means 2 s.
	FastWait time.Duration

	// SlowWait is the wait after a later attempt. Zero means 15 s.
	SlowWait time.Duration

	// Concurrency bounds the shards in flight. Zero means 10.
	Concurrency int

	// LimitRate is how much is received of shards, of all fetches together, in bytes
	// per second at most. Zero means no limit.
	LimitRate int64

	// RootCAs are those who sign the certificates of https:// upstreams. Nil is for those
	// that the system trusts.
	RootCAs *x509.CertPool

	// Swarm has what is relayed be swapped with peers, see [Pool.Swarm].
	Swarm bool

	// SwarmAllow is where peers may be that upstreams name, besides where they are
	// allowed to be anyhow, see [swarm.ParsePeers].
	SwarmAllow []netip.Prefix

	// Metrics count what comes, and how the upstreams are. Nil counts nothing.
	Metrics *metrics.Metrics

	// Logger receives one record per shard at debug level, and one per upstream
	// that misbehaves as a warning. Nil discards.
	Logger *slog.Logger
}

// A Pool is a set of upstreams and what is known of them. Its methods may be
// called from any goroutine.
type Pool struct {
	opts    Options
	names   []*serverName
	resolve resolver
	rank    *Ranking
	client  *http.Client
	buffers sync.Pool      // of *[]byte, copyBuffer long
	bucket  *bucket.Bucket // of all that is received of shards, or nil
	step    int            // in bytes, what is taken from it at once

	asking singleflight.Group // requests for distributions, by upstream
	life   context.Context    //nolint:containedctx // what is asked for several callers outlives each of them
	end    context.CancelFunc // of life

	joining   sync.RWMutex // guards upstreams; may be taken with mu held
	upstreams []*upstream  // only grows, into another slice; see all

	mu       sync.Mutex                      // guards what follows, and what upstreams change
	joined   chan struct{}                   // closed and replaced when names have other addresses, or upstreams other peers
	resolved time.Time                       // when it was last looked which they have
	swarms   []*swarming                     // fetches in swarms
	freed    chan struct{}                   // closed and replaced when a transfer ends
	news     chan struct{}                   // closed and replaced when there is something to tell who follows
	twins    map[distfile.Entry]shard.Digest // the SHA-256 of what is offered by its BLAKE3
	// What has a manifest, by the digest that this is offered by.
	manifested map[distfile.Entry]bool

	received atomic.Int64 // when something of a shard came, in nanoseconds since 1970
}

// copyBuffer in bytes is what is received at once; memory is this times the
// shards in flight.
const copyBuffer = 256 << 10

// upstream is one server to fetch from.
type upstream struct {
	url    *url.URL
	index  int    // in the ranking
	number int    // among those that were configured, or noNumber
	name   string // for people, without a password
	fixed  bool   // the user has named it himself
	peer   bool   // an upstream has named it: for everybody but a swarm it is gone

	// What follows changes, under the pool's mu.
	offered []distfile.Entry // the last distribution it sent
	etag    string           // of that, or empty
	changed time.Time        // when it became another one
	gone    bool             // a name had it, and has it no more
	skipped string           // what was wrong with lines of it
	failing bool             // it did not send one when it was last asked
	heard   bool             // it has sent one before
	misses  int              // how often it did not
	peers   []*upstream      // that it tells of
	deaf    int              // how often in a row it did not tell what it has

	standing swarm.Standing // of this node there, or Reader if it says nothing of that

	err       error     // what it failed with last; nil when it has answered since
	last      failure   // the same, also when it has answered since
	rangeless bool      // it sends all when asked for a range
	long      bool      // its shards have five digits
	transfers int       // requests for shards and manifests under way
	sending   int       // those of them for shards that it answers
	later     time.Time // when it may be asked for more than most things at once
	most      int
	askLater  time.Time // when it may be asked for its distribution
	askErr    error     // why not before
}

// New returns a Pool of opts.Upstreams, of which there must be one or more;
// repeated ones count once.
func New(opts Options) (*Pool, error) {
	if len(opts.Upstreams) == 0 {
		return nil, errors.New("no server to fetch from")
	}
	opts.Timeout = cmp.Or(opts.Timeout, DefaultTimeout)
	opts.Attempts = cmp.Or(opts.Attempts, DefaultAttempts)
	opts.FastAttempts = cmp.Or(opts.FastAttempts, DefaultFastAttempts)
	opts.FastWait = cmp.Or(opts.FastWait, DefaultFastWait)
	opts.SlowWait = cmp.Or(opts.SlowWait, DefaultSlowWait)
	opts.Concurrency = cmp.Or(opts.Concurrency, DefaultConcurrency)
	opts.Logger = cmp.Or(opts.Logger, slog.New(slog.DiscardHandler))
	if opts.Timeout < 0 || opts.Attempts < 0 || opts.FastAttempts < 0 ||
		opts.FastWait < 0 || opts.SlowWait < 0 || opts.Concurrency < 0 {
		return nil, fmt.Errorf("a time-out, wait or number of attempts or shards is negative: %v, %v, %v, %d, %d, %d",
			opts.Timeout, opts.FastWait, opts.SlowWait, opts.Attempts, opts.FastAttempts, opts.Concurrency)
	}
	if opts.LimitRate < 0 {
		return nil, fmt.Errorf("a limit of %d bytes per second is negative", opts.LimitRate)
	}
	var configured []string
	var once []*url.URL
	for _, u := range opts.Upstreams {
		if !slices.Contains(configured, u.Redacted()) {
			configured, once = append(configured, u.Redacted()), append(once, u)
		}
	}
	opts.Upstreams = once
	p := &Pool{
		opts:   opts,
		bucket: bucket.New(opts.LimitRate),
		client: &http.Client{
			Transport: newTransport(opts),
			// Whoever is asked answers himself: where a redirect leads is nobody that
			// the user has named.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		buffers:    sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }},
		freed:      make(chan struct{}),
		news:       make(chan struct{}),
		joined:     make(chan struct{}),
		twins:      make(map[distfile.Entry]shard.Digest),
		manifested: make(map[distfile.Entry]bool),
		rank:       NewRanking(0, time.Now, rand.Float64),
		resolve:    resolve,
	}
	if p.bucket != nil {
		// For everybody to have his turn twice a second, or he would seem to stall.
		p.step = min(p.bucket.Burst(), int(max(1, opts.LimitRate/int64(2*opts.Concurrency))))
	}
	for i, u := range opts.Upstreams {
		if u.Scheme == byName {
			p.names = append(p.names, &serverName{url: u, number: i})
		} else {
			p.join(u, i).fixed = true
		}
	}
	p.life, p.end = context.WithCancel(context.Background())
	opts.Metrics.Follow(configured, p.measure)
	return p, nil
}

// Close ends the requests that nobody waits for any more, and closes the
// connections that are kept for later ones.
func (p *Pool) Close() {
	p.end()
	_, _, _ = p.asking.Do("names", func() (any, error) { return nil, nil }) //nolint:nilnil // only to wait
	for _, u := range p.all() {
		_, _, _ = p.asking.Do(u.name, func() (any, error) { return nil, nil }) //nolint:nilnil // only to wait
	}
	p.client.CloseIdleConnections()
}

// newTransport has no time limits of its own but for connecting: silence is
// watched for the whole of a request, see get. With a dialer and a TLS configuration
// of ours it speaks HTTP/1.1 alone, which is wanted: HTTP/2, whose transfers share a
// connection, was slower by a fifth.
func newTransport(opts Options) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        &tls.Config{RootCAs: opts.RootCAs, MinVersion: tls.VersionTLS12},
		DialContext:            (&net.Dialer{Timeout: opts.Timeout}).DialContext,
		TLSHandshakeTimeout:    opts.Timeout,
		MaxIdleConnsPerHost:    opts.Concurrency,
		IdleConnTimeout:        time.Minute,
		DisableCompression:     true, // the digests are of the bytes as they are
		MaxResponseHeaderBytes: 64 << 10,
	}
}
