package shardcast

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

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
	// 50,000,000, and [AutoShardSize] a thousandth of the file, within 8,000,000 and
	// 64,000,000. A file may have 65,536 shards.
	ShardSize int64

	// MaxVersions is how many versions are kept, up to 10,000. Zero means 15.
	MaxVersions int

	// Dialect is that of the release of the Python package which the root of the server
	// answers like, "0.1" or "0.3". Either is answered below /py01 and /py03 too. Empty
	// means "0.1".
	Dialect string

	// Watch are the files that [Origin.Serve] broadcasts as they appear. The zero
	// value is for none.
	Watch WatchOptions

	// ServerLimits bound what is sent, and SwarmOptions are for those who follow.
	ServerLimits
	SwarmOptions

	// Ready is called by [Origin.Serve] when the data directory is its own, before
	// it takes connections. Nil calls nothing.
	Ready func()

	// AccessLog receives a line for each answer of the server, in the Combined Log Format
	// with the seconds that it took after it. Each is one call of Write, and there are
	// never two at the same time. Nil is for none.
	AccessLog io.Writer

	// NoStatusPage has the server not show what it has and does at / and /status.json.
	NoStatusPage bool

	// Logger receives what happens. Nil discards it.
	Logger *slog.Logger
}

// WatchOptions say which files an [Origin] broadcasts by itself while it serves: each
// once when it is complete, in the order of their times, and those of the same time by
// name. What has been broadcast is remembered in the data directory, by name, size, time
// and inode, so that what appears while no server runs follows, and a file that is
// replaced by another one is broadcast again. Links, hidden files and what is in the
// data directory are left alone.
//
// A file is complete when it has not changed for Settle or has its Marker, and, on
// Linux, nobody has it open for writing. Who pauses for longer while he writes, and
// closes the file meanwhile or writes from another machine, has half a file broadcast;
// who renames whole files into the directory, or writes a marker after them, has not.
// A file that changes while it is being cut is not published. What goes wrong is logged
// and tried again.
type WatchOptions struct {
	// Dir is the directory in which the files appear. It may appear later itself. Empty
	// means that nothing is watched.
	Dir string

	// Glob is what their names match, as [path.Match] has it: either the names of files
	// in Dir, or, with a slash, those of files in directories in Dir. Empty means "*".
	Glob string

	// Marker is the name of a file that has to be beside one, in its directory, before it
	// is broadcast; if it is no older than the file, that need not settle any more. Empty
	// means that there is none.
	Marker string

	// Settle is how long a file must not have changed. Zero means 2 s.
	Settle time.Duration
}

// watch returns what the options say, and nil if that is nothing.
func (o WatchOptions) watch(data string) (*origin.Watch, error) {
	if o == (WatchOptions{}) {
		return nil, nil //nolint:nilnil // there is nothing to watch, which is fine
	}
	if o.Dir == "" {
		return nil, fmt.Errorf("%w: it is said what to watch for, and no directory to watch", ErrOptions)
	}
	w := &origin.Watch{
		Dir: o.Dir, Glob: cmp.Or(o.Glob, DefaultWatchGlob), Marker: o.Marker, Settle: cmp.Or(o.Settle, DefaultWatchSettle),
	}
	if err := w.Check(data); err != nil {
		return nil, fmt.Errorf("%w: watch: %w", ErrOptions, err)
	}
	return w, nil
}

// An Origin publishes files as versions in a data directory, and serves that
// directory. Its methods may be called from any goroutine.
type Origin struct {
	host    string
	port    int
	store   *store.Store
	origin  *origin.Origin
	serving server.Options
	watch   *origin.Watch // nil for nothing
	ready   func()
}

// NewOrigin opens the data directory. It returns an error matching [ErrOptions]
// if an option is out of its range, or one of the file system's. The caller
// closes the Origin.
func NewOrigin(opts OriginOptions) (*Origin, error) {
	shardSize := cmp.Or(opts.ShardSize, DefaultShardSize)
	if shardSize == AutoShardSize {
		shardSize = 0
	} else if shardSize < 0 {
		return nil, fmt.Errorf("%w: shard size %d is negative", ErrOptions, opts.ShardSize)
	}
	if err := checkServer(opts.Port, opts.MaxVersions); err != nil {
		return nil, err
	}
	serving, err := opts.serving(opts.Dialect)
	if err != nil {
		return nil, err
	}
	dataDir := cmp.Or(opts.DataDir, DefaultOriginDir)
	watch, err := opts.Watch.watch(dataDir)
	if err != nil {
		return nil, err
	}
	serving.AccessLog = opts.AccessLog
	serving.Metrics = metrics.New("origin", build())
	logger := loggerOr(opts.Logger)
	if serving.Members, err = opts.members(logger); err != nil {
		return nil, err
	}
	if !opts.NoStatusPage {
		serving.Status = &server.Status{Role: "origin", Build: build()}
	}
	st, err := store.Open(dataDir, store.Origin)
	if err != nil {
		return nil, err
	}
	return &Origin{
		host:    opts.Host,
		port:    serverPort(opts.Port),
		store:   st,
		serving: serving,
		watch:   watch,
		ready:   opts.Ready,
		origin: origin.New(st, shardSize,
			cmp.Or(opts.MaxVersions, DefaultMaxVersions), logger),
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

// Serve serves the data directory on ln, from [Origin.Listen] or elsewhere, and
// broadcasts what appears where Watch says, until ctx ends, then finishes what it is sending, for 30 seconds at most, and
// returns nil. It returns an error matching [ErrInUse] if the data directory has
// another server. It closes ln.
func (o *Origin) Serve(ctx context.Context, ln net.Listener) error {
	if o.watch == nil {
		return o.origin.Serve(ctx, ln, o.serving, o.ready)
	}
	ctx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	return o.origin.Serve(ctx, ln, o.serving, func() {
		if o.ready != nil {
			o.ready()
		}
		watching.Go(func() { o.origin.Watch(ctx, *o.watch) })
	})
}

// Close gives back what [NewOrigin] took.
func (o *Origin) Close() error {
	o.serving.Members.Close()
	return o.store.Close()
}

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
