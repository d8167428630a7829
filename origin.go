package shardcast

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/store"
)

// OriginOptions configure an [Origin]. The zero value is a good one.
type OriginOptions struct {
	// DataDir is the directory that versions are kept in; it is made if it is
	// missing. Empty means "./data".
	DataDir string

	// Host is the name or address of the interface to listen on. Empty means all.
	Host string

	// Port is the TCP port to listen on. Zero means 8000, and a negative one any
	// that is free.
	Port int

	// ShardSize is that of every shard but the last, in bytes. Zero means
	// 50,000,000. A file may have 65,536 shards.
	ShardSize int64

	// MaxVersions is how many versions are kept, up to 10,000. Zero means 15.
	MaxVersions int

	// Dialect is that of the release of the Python package which the root of the server
	// answers like, "0.1" or "0.3". Either is answered below /py01 and /py03 too. Empty
	// means "0.1".
	Dialect string

	// ServerLimits bound what is sent.
	ServerLimits

	// Ready is called by [Origin.Serve] when the data directory is its own, before
	// it takes connections. Nil calls nothing.
	Ready func()

	// AccessLog receives a line for each answer of the server, in the Combined Log Format
	// with the seconds that it took after it. Each is one call of Write, and there are
	// never two at the same time. Nil is for none.
	AccessLog io.Writer

	// Logger receives what happens. Nil discards it.
	Logger *slog.Logger
}

// An Origin publishes files as versions in a data directory, and serves that
// directory. Its methods may be called from any goroutine.
type Origin struct {
	host    string
	port    int
	store   *store.Store
	origin  *origin.Origin
	serving server.Options
	ready   func()
}

// NewOrigin opens the data directory. It returns an error matching [ErrOptions]
// if an option is out of its range, or one of the file system's. The caller
// closes the Origin.
func NewOrigin(opts OriginOptions) (*Origin, error) {
	if opts.ShardSize < 0 {
		return nil, fmt.Errorf("%w: shard size %d is negative", ErrOptions, opts.ShardSize)
	}
	if err := checkServer(opts.Port, opts.MaxVersions); err != nil {
		return nil, err
	}
	serving, err := opts.serving(opts.Dialect)
	if err != nil {
		return nil, err
	}
	serving.AccessLog = opts.AccessLog
	serving.Metrics = metrics.New("origin", build())
	st, err := store.Open(cmp.Or(opts.DataDir, DefaultOriginDir), store.Origin)
	if err != nil {
		return nil, err
	}
	return &Origin{
		host:    opts.Host,
		port:    serverPort(opts.Port),
		store:   st,
		serving: serving,
		ready:   opts.Ready,
		origin: origin.New(st, cmp.Or(opts.ShardSize, DefaultShardSize),
			cmp.Or(opts.MaxVersions, DefaultMaxVersions), loggerOr(opts.Logger)),
	}, nil
}

// Broadcast cuts the file path into shards and puts it on offer as the next
// version, which it returns, such as "v1". Servers of the data directory, in
// this process or another, serve it at once, and the oldest versions beyond
// MaxVersions are retired. Any number of broadcasts into one directory may run
// at the same time, here or in other processes: each waits for its turn.
//
// On any error nothing is published, and nothing left on the disk. Errors match
// [ErrChanged] if the file was written to meanwhile, [ErrNoSpace] if the disk has
// no room for it and [ErrInUse] if the data directory is a middle's; others are
// the file system's, or what ended ctx.
func (o *Origin) Broadcast(ctx context.Context, path string) (version string, err error) {
	v, err := o.origin.Broadcast(ctx, path)
	if err != nil {
		return "", err
	}
	return v.String(), nil
}

// Listen listens where the options say, for [Origin.Serve].
func (o *Origin) Listen() (net.Listener, error) { return listen(o.host, o.port) }

// Serve serves the data directory on ln, from [Origin.Listen] or elsewhere,
// until ctx ends, then finishes what it is sending, for 30 seconds at most, and
// returns nil. It returns an error matching [ErrInUse] if the data directory has
// another server. It closes ln.
func (o *Origin) Serve(ctx context.Context, ln net.Listener) error {
	return o.origin.Serve(ctx, ln, o.serving, o.ready)
}

// Close gives back what [NewOrigin] took.
func (o *Origin) Close() error { return o.store.Close() }

// checkServer refuses ports that there are not, and more versions than
// distribution.txt has room for.
func checkServer(port, maxVersions int) error {
	if port > maxPort {
		return fmt.Errorf("%w: port %d, want up to %d", ErrOptions, port, maxPort)
	}
	if maxVersions < 0 || maxVersions > distfile.MaxEntries {
		return fmt.Errorf("%w: %d versions to keep, want up to %d", ErrOptions, maxVersions, distfile.MaxEntries)
	}
	return nil
}

// serverPort is the port that the option port means.
func serverPort(port int) int {
	switch {
	case port == 0:
		return DefaultPort
	case port < 0:
		return 0
	default:
		return port
	}
}

func loggerOr(logger *slog.Logger) *slog.Logger {
	return cmp.Or(logger, slog.New(slog.DiscardHandler))
}
