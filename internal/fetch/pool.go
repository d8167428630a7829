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
// see [Ranking]. A request that fails is repeated with the others first; when all
// have failed that is one attempt, and the next is made after a wait (2 s for
// the first ones, 15 s later, each up to a quarter shorter or longer, so that
// those who failed together do not come back together). An upstream that sends
// nothing for the time-out has failed. One whose bytes do not agree with a
// shard's digest or size is named in the log and not asked again in that fetch,
// unless its distribution has changed meanwhile. One that answers 404 is asked
// for its distribution, since the version may have been retired. A manifest that
// the bytes do not fit is dropped, its upstream named, and all is begun again by
// the manifest of another one.
package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/shardcast/shardcast/internal/bucket"
	"github.com/shardcast/shardcast/internal/distfile"
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
	// which they are believed when as many say one thing as another. See
	// [ParseAddress].
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

	// Logger receives one record per shard at debug level, and one per upstream
	// that misbehaves as a warning. Nil discards.
	Logger *slog.Logger
}

// A Pool is a set of upstreams and what is known of them. Its methods may be
// called from any goroutine.
type Pool struct {
	opts      Options
	upstreams []*upstream
	rank      *Ranking
	client    *http.Client
	buffers   sync.Pool      // of *[]byte, copyBuffer long
	bucket    *bucket.Bucket // of all that is received of shards, or nil

	asking singleflight.Group // requests for distributions, by upstream
	life   context.Context    //nolint:containedctx // what is asked for several callers outlives each of them
	end    context.CancelFunc // of life

	mu       sync.Mutex    // guards what follows, and what upstreams change
	freed    chan struct{} // closed and replaced when a transfer ends
	received time.Time     // when something of a shard came
}

// copyBuffer in bytes is what is received at once; memory is this times the
// shards in flight.
const copyBuffer = 256 << 10

// upstream is one server to fetch from.
type upstream struct {
	url   *url.URL
	index int    // in the ranking
	name  string // for people, without a password

	// What follows changes, under the pool's mu.
	offered []distfile.Entry // the last distribution it sent
	skipped string           // what was wrong with lines of it
	failing bool             // it did not send one when it was last asked
	heard   bool             // it has sent one before
	misses  int              // how often it did not

	err       error     // what it failed with last; nil when it has answered since
	rangeless bool      // it sends all when asked for a range
	transfers int       // requests for shards and manifests under way
	later     time.Time // when it may be asked for more than most things at once
	most      int
	askLater  time.Time // when it may be asked for its distribution
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
	p := &Pool{
		opts:   opts,
		bucket: bucket.New(opts.LimitRate),
		client: &http.Client{
			Transport: newTransport(opts),
			// Whoever is asked answers himself: where a redirect leads is nobody that
			// the user has named.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		buffers: sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }},
		freed:   make(chan struct{}),
	}
	seen := make(map[string]bool)
	for _, u := range opts.Upstreams {
		if name := u.Redacted(); !seen[name] {
			seen[name] = true
			p.upstreams = append(p.upstreams, &upstream{url: u, index: len(p.upstreams), name: name})
		}
	}
	p.life, p.end = context.WithCancel(context.Background())
	p.rank = NewRanking(len(p.upstreams), time.Now, rand.Float64)
	return p, nil
}

// Close ends the requests that nobody waits for any more, and closes the
// connections that are kept for later ones.
func (p *Pool) Close() {
	p.end()
	for _, u := range p.upstreams {
		_, _, _ = p.asking.Do(u.name, func() (any, error) { return nil, nil }) //nolint:nilnil // only to wait
	}
	p.client.CloseIdleConnections()
}

// newTransport has no time limits of its own but for connecting: silence is
// watched for the whole of a request, see get.
func newTransport(opts Options) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: opts.Timeout}).DialContext,
		TLSHandshakeTimeout:    opts.Timeout,
		MaxIdleConnsPerHost:    opts.Concurrency,
		IdleConnTimeout:        time.Minute,
		DisableCompression:     true, // the digests are of the bytes as they are
		MaxResponseHeaderBytes: 64 << 10,
	}
}
