package shardcast

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/middle"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/store"
)

// MiddleOptions configure a [Middle]. Only Upstreams is required.
type MiddleOptions struct {
	// Upstreams are the servers to follow: host, host:port or an http:// or
	// https:// URL with an optional path, or dns+http://name:port for all servers that
	// the name has addresses of, as they change; see UpstreamPort. Where as many of them
	// say one thing as another, the first is believed.
	Upstreams []string

	// UpstreamPort is that of upstreams without one. Zero means 8000.
	UpstreamPort int

	// DataDir is the directory that versions are kept in; it is made if it is
	// missing. Empty means "./middle_data".
	DataDir string

	// Host is the name or address of the interface to listen on. Empty means all.
	Host string

	// Port is the TCP port to listen on. Zero means 8000, and a negative one any
	// that is free.
	Port int

	// CheckInterval is the time between two looks at upstreams that do not tell what
	// is new, and until what has failed is tried again. Zero means 30 s.
	CheckInterval time.Duration

	// MaxVersions is how many versions are kept, up to 10,000. Zero means 15.
	MaxVersions int

	// Dialect is that of the release of the Python package which the root of the server
	// answers like, "0.1" or "0.3". Either is answered below /py01 and /py03 too. Empty
	// means "0.1".
	Dialect string

	// FetchOptions say how shards are fetched, and ServerLimits bound what is sent.
	// Each has its own LimitRate. SwarmOptions are for those who follow.
	FetchOptions
	ServerLimits
	SwarmOptions

	// AccessLog receives a line for each answer of the server, in the Combined Log Format
	// with the seconds that it took after it. Each is one call of Write, and there are
	// never two at the same time. Nil is for none.
	AccessLog io.Writer

	// NoStatusPage has the server not show what it has and does at / and /status.json.
	NoStatusPage bool

	// Logger receives what happens. Nil discards it.
	Logger *slog.Logger
}

// A Middle follows upstreams, keeps what they offer in a data directory, each
// version once all of it has been verified, and serves that, and what is on its way
// there.
type Middle struct {
	host    string
	port    int
	store   *store.Store
	pool    *fetch.Pool
	serving server.Options
	middle  *middle.Middle
}

// NewMiddle opens the data directory. It returns an error matching [ErrOptions]
// if an option is missing or out of its range, or one of the file system's. The
// caller closes the Middle.
func NewMiddle(opts MiddleOptions) (*Middle, error) {
	if opts.CheckInterval < 0 {
		return nil, fmt.Errorf("%w: check interval %v is negative", ErrOptions, opts.CheckInterval)
	}
	if err := checkServer(opts.Port, opts.MaxVersions); err != nil {
		return nil, err
	}
	serving, err := opts.serving(opts.Dialect)
	if err != nil {
		return nil, err
	}
	serving.AccessLog = opts.AccessLog
	serving.Metrics = metrics.New("middle", build())
	if !opts.NoStatusPage {
		serving.Status = &server.Status{Role: "middle", Build: build()}
	}
	logger := loggerOr(opts.Logger)
	if serving.Members, err = opts.members(logger); err != nil {
		return nil, err
	}
	pool, err := opts.pool(opts.Upstreams, cmp.Or(opts.UpstreamPort, DefaultPort), fetch.Options{
		Swarm: opts.Swarm, SwarmAllow: opts.SwarmAllow, Metrics: serving.Metrics, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	st, err := store.Open(cmp.Or(opts.DataDir, DefaultMiddleDir), store.Middle)
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &Middle{
		host:    opts.Host,
		port:    serverPort(opts.Port),
		store:   st,
		pool:    pool,
		serving: serving,
		middle: middle.New(st, pool, cmp.Or(opts.CheckInterval, DefaultCheckInterval),
			cmp.Or(opts.MaxVersions, DefaultMaxVersions), logger),
	}, nil
}

// Listen listens where the options say, for [Middle.Serve].
func (m *Middle) Listen() (net.Listener, error) { return listen(m.host, m.port) }

// Serve follows the upstreams and serves what it has on ln, from [Middle.Listen]
// or elsewhere, until ctx ends; then it finishes what it is sending, for 30
// seconds at most, and returns nil. It returns an error matching [ErrInUse] if
// the data directory has another server. Trouble upstream is logged, and tried
// again. It closes ln.
func (m *Middle) Serve(ctx context.Context, ln net.Listener) error {
	return m.middle.Serve(ctx, ln, m.serving)
}

// Close gives back what [NewMiddle] took.
func (m *Middle) Close() error {
	m.serving.Members.Close()
	m.pool.Close()
	return m.store.Close()
}
