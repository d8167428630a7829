package shardcast

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/middle"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/store"
)

// MiddleOptions configure a [Middle]. Only Upstreams is required.
type MiddleOptions struct {
	// Upstreams are the servers to follow: host, host:port or an http:// or https:// URL
	// with an optional path, or dns+http://name:port, or dns+https://, for a server at each address of the
	// name, as they change. The middle takes up the versions that more than half of them
	// list, and of two those of the first; those that have been down for a minute do not count.
	Upstreams []string

	// Trust names the publisher whose word counts, in place of what upstreams list. Without it
	// the middle relays the release that most upstreams serve, and believes none.
	Trust TrustOptions

	// Quorum is the number of upstreams that have to list a version, if that is more. Zero
	// asks for no more.
	Quorum int

	// AcceptRestart lets version numbers go back when the origin has started over, and run
	// any distance ahead. Otherwise the middle keeps its versions, and warns.
	AcceptRestart bool

	// UpstreamPort is the port of upstreams without one. Zero means 8000, and 80 where that
	// refuses the connection.
	UpstreamPort int

	// DataDir is the directory of the versions; a missing one is made. Empty means "./middle_data".
	DataDir string

	// Host is the name or address of the interface to listen on. Empty means all.
	Host string

	// Port is the TCP port to listen on. Zero means 8000, and a negative one any free
	// port.
	Port int

	// CheckInterval is the time between two polls of upstreams that do not push new
	// versions, and the wait after a failed fetch. Zero means 30 s.
	CheckInterval time.Duration

	// MaxVersions becomes the number of versions that the data directory keeps, up to 10,000,
	// see [Settings]. Zero means the directory's own number.
	MaxVersions int

	// Dialect is the release of the Python package, "0.1", "0.2" or "0.3", whose protocol
	// the server speaks at its root. Empty means our own, see docs/compatibility.md. Each is
	// spoken below /py01, /py02 and /py03 whatever this is.
	Dialect string

	// Fetch says how to fetch shards, and Limits bound the shards that the server sends;
	// each has its own LimitRate. Swarm has the middle swap shards with its peers, and its
	// own nodes with one another.
	Fetch  FetchOptions
	Limits ServerLimits
	Swarm  SwarmOptions

	// Congestion is the congestion control of the connections to readers, see [OriginOptions].
	Congestion string

	// Web says which web pages may read from the server.
	Web WebOptions

	// TLS says how the server speaks TLS.
	TLS TLSOptions

	// Access says who may read from the server.
	Access AccessOptions

	// AccessLog receives a line for each answer of the server, in the Combined Log Format
	// followed by the duration in seconds. Each line is one call of Write; calls do not
	// overlap. Nil means no log.
	AccessLog io.Writer

	// NoStatusPage removes the status page at / and /status.json.
	NoStatusPage bool

	// Logger receives the log. Nil discards it.
	Logger *slog.Logger
}

// A Middle follows upstreams, keeps their versions in a data directory once it has
// verified them, and serves these versions and the arriving ones.
type Middle struct {
	host    string
	port    int
	peers   int // the port for peers by TLS
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
		return nil, fmt.Errorf("%w: CheckInterval: %v is negative", ErrOptions, opts.CheckInterval)
	}
	if err := checkServer(opts.Port, opts.MaxVersions); err != nil {
		return nil, err
	}
	serving, err := opts.Limits.serving(opts.Dialect, opts.Host, opts.Congestion, opts.Web)
	if err != nil {
		return nil, err
	}
	serving.AccessLog = opts.AccessLog
	serving.Metrics = metrics.New("middle", build())
	if !opts.NoStatusPage {
		serving.Status = &server.Status{Role: "middle", Build: build()}
	}
	logger := loggerOr(opts.Logger)
	if serving.TLS, err = opts.TLS.serving(logger); err != nil {
		return nil, err
	}
	if serving.Members, err = opts.Swarm.members(serving.TLS != nil, logger); err != nil {
		return nil, err
	}
	if err := opts.Access.serve(&serving, logger); err != nil {
		return nil, err
	}
	dir := cmp.Or(opts.DataDir, DefaultMiddleDir)
	keeper, err := opts.Trust.keeper(filepath.Join(dir, store.PrivateName), logger)
	if err != nil {
		return nil, err
	}
	pool, err := opts.Fetch.pool(opts.Upstreams, opts.UpstreamPort, fetch.Options{
		Quorum: opts.Quorum, Releases: true, Keeper: keeper,
		Swarm: opts.Swarm.Enabled, SwarmAllow: opts.Swarm.Allow, Metrics: serving.Metrics, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	st, err := store.Open(dir, store.Middle)
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &Middle{
		host:    opts.Host,
		port:    serverPort(opts.Port),
		peers:   opts.Swarm.Port,
		store:   st,
		pool:    pool,
		serving: serving,
		middle: middle.New(st, pool, middle.Options{
			Interval: cmp.Or(opts.CheckInterval, DefaultCheckInterval), Keep: opts.MaxVersions,
			AcceptRestart: opts.AcceptRestart, Swarm: opts.Swarm.Enabled, Logger: logger,
		}),
	}, nil
}

// Listen listens on the Host and Port of the options, for [Middle.Serve].
func (m *Middle) Listen() (net.Listener, error) { return listen(m.host, m.port) }

// Serve follows the upstreams and serves on ln, from [Middle.Listen] or elsewhere,
// until ctx ends; then it finishes its answers within 30 seconds and returns nil. It
// returns an error matching [ErrInUse] if the data directory has another server. It
// logs failures of upstreams and tries again. It closes ln.
func (m *Middle) Serve(ctx context.Context, ln net.Listener) error {
	serving := m.serving
	if node := m.pool.Node(); node != nil {
		peers, err := listen(m.host, max(m.peers, 0))
		if err != nil {
			return errors.Join(fmt.Errorf("serve peers: %w", err), ln.Close())
		}
		serving.Nodes = &server.Nodes{Listener: peers, Certificate: node.Certificate, Tickets: node.Tickets}
	}
	return m.middle.Serve(ctx, ln, serving)
}

// Reload has the server read the files of its certificate and its tokens at once. Otherwise it
// looks at them every second.
func (m *Middle) Reload() {
	m.serving.TLS.Reload()
	m.serving.Tokens.Reload()
}

// Close releases the data directory and closes connections to upstreams.
func (m *Middle) Close() error {
	m.serving.Members.Close()
	m.pool.Close()
	return m.store.Close()
}
