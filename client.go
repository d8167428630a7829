package shardcast

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
)

// Latest is the version that stands for the newest one on offer.
const Latest = "latest"

// ClientOptions configure a [Client]. Only Servers is required.
type ClientOptions struct {
	// Servers are where to fetch from: host, host:port or an http:// or https://
	// URL with an optional path, or dns+http://name:port for all servers that the name
	// has addresses of, as they change; see ServerPort. Any of them that is up is enough.
	// Where as many of them say one thing as another, the first is believed.
	Servers []string

	// ServerPort is that of servers without one. Zero means 8000.
	ServerPort int

	// OutputDir is where downloads go that are given no path. Empty means
	// "./downloads".
	OutputDir string

	// FetchOptions say how shards are fetched.
	FetchOptions

	// Wait is how long a download waits for its version to be offered, and for a
	// server that answers. Zero means not at all: it fails when there is none.
	Wait time.Duration

	// NoResume has downloads begin afresh, without what an earlier one has left.
	NoResume bool

	// SwarmOptions have downloads swap their shards with others that follow the same
	// servers, where these have a swarm, while [Client.Serve] runs. LimitRate is for what
	// is sent to others, too, by itself.
	SwarmOptions

	// Progress is called a few times a second during a download, and once at its
	// end, never twice at the same time. Nil has a line logged every ten seconds.
	Progress func(Progress)

	// Logger receives what happens. Nil discards it.
	Logger *slog.Logger
}

// A Version is what servers tell of one. Where no server has a manifest, as with
// the Python package, only Name and Digest are known, and Shards where it is
// stated.
type Version struct {
	// Name is the version's, such as "v1".
	Name string

	// File is what the file was called where it was published. Do not use it as a
	// path unseen: it comes from the network.
	File string

	// Size is the file's, in bytes, and -1 if it is not known.
	Size int64

	// ShardSize is that of every shard but the last, in bytes, and -1 if it is not
	// known.
	ShardSize int64

	// Shards is their number, and -1 if it is not known.
	Shards int

	// Date is when the version was cut, and zero if that is not known.
	Date time.Time

	// Digest is the file's SHA-256, as 64 lower-case hex digits.
	Digest string
}

// A Result is what [Client.Download] has brought, and where to.
type Result struct {
	Version

	// Path is the file that holds it.
	Path string

	// Progress is how the download went.
	Progress Progress
}

// A Client lists and downloads versions. Its methods may be called from any
// goroutine.
type Client struct {
	pool      *fetch.Pool
	client    *client.Client
	outputDir string
	wait      time.Duration
	noResume  bool
	progress  func(Progress)
	logger    *slog.Logger
	board     *relay.Board     // of a swarm, or nil, and then:
	given     *metrics.Metrics // what others are sent of it
	limitRate int64            // of that
}

// NewClient returns a Client. It asks nothing of the servers yet. Errors match
// [ErrOptions]. The caller closes the Client.
func NewClient(opts ClientOptions) (*Client, error) {
	if opts.Wait < 0 {
		return nil, fmt.Errorf("%w: wait %v is negative", ErrOptions, opts.Wait)
	}
	if err := opts.check(); err != nil {
		return nil, err
	}
	logger := loggerOr(opts.Logger)
	pool, err := opts.pool(opts.Servers, cmp.Or(opts.ServerPort, DefaultPort), fetch.Options{
		Swarm: opts.Swarm, SwarmAllow: opts.SwarmAllow, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	c := &Client{
		pool: pool, client: client.New(pool, logger), outputDir: cmp.Or(opts.OutputDir, DefaultOutputDir),
		wait: opts.Wait, noResume: opts.NoResume, progress: opts.Progress, logger: logger,
	}
	if opts.Swarm {
		c.board, c.given, c.limitRate = relay.NewBoard(), metrics.New("client", ""), opts.LimitRate
		c.client.Share(c.board)
	}
	return c, nil
}

// Serve takes part in the swarms of the client's servers until ctx ends: it serves what
// downloads have brought of the newest two versions on ln, which it closes, to others, and
// has downloads take from others what these have. Downloads that begin before it does do
// not. It returns nil when ctx has ended, and an error that matches [ErrOptions] if the
// options do not say Swarm.
func (c *Client) Serve(ctx context.Context, ln net.Listener) error {
	if c.board == nil {
		return errors.Join(fmt.Errorf("%w: to serve, a client must be in a swarm", ErrOptions), ln.Close())
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return server.ServeBoard(ctx, ln, server.Options{
			Board: c.board, Metrics: c.given, Limits: server.Limits{Rate: c.limitRate}, Logger: c.logger,
		})
	})
	group.Go(func() error {
		c.pool.Swarm(ctx, ln.Addr())
		return nil
	})
	return group.Wait()
}

// Given returns how many bytes of shards [Client.Serve] has sent to others.
func (c *Client) Given() int64 { return c.given.Traffic().ToPeers }

// List returns the versions on offer, ascending. It tries nothing again. The
// error matches [ErrUnreachable] if none answers.
func (c *Client) List(ctx context.Context) ([]Version, error) {
	listings, err := c.client.List(ctx)
	if err != nil {
		return nil, err
	}
	versions := make([]Version, len(listings))
	for i, l := range listings {
		versions[i] = Version{
			Name: l.Entry.Version.String(), Size: -1, ShardSize: -1, Shards: cmp.Or(l.Entry.Count, -1), Digest: l.Entry.Digest.String(),
		}
		if m := l.Manifest; m != nil {
			versions[i] = versionOf(l.Entry.Version, *m)
			versions[i].Shards = l.Entry.Count
		}
	}
	return versions, nil
}

// Download brings a version, such as "v1" or [Latest], to the file path; an empty
// path means download_v1.bin in the options' OutputDir. Directories on the way
// are made. When it returns nil, the file is the one that was published, all of
// it, on the disk; on any error what stood at path is as it was before, and what
// has come is kept beside it for the next Download of the same file to the same
// path, which goes on where this one stopped. What is not offered yet it waits for,
// as long as the options say.
//
// Errors match [ErrOptions] if version is neither, [ErrNoVersion],
// [ErrIntegrity], [ErrUnreachable] or [ErrNoSpace]; others are the file system's,
// what ended ctx, or say what the servers answered.
func (c *Client) Download(ctx context.Context, version, path string) (Result, error) {
	var number shard.Version
	if version != Latest {
		var err error
		if number, err = shard.ParseVersion(version); err != nil {
			return Result{}, fmt.Errorf("%w: %w, or %s", ErrOptions, err, Latest)
		}
	}
	entry, err := c.client.Await(ctx, number, c.wait)
	if err != nil {
		return Result{}, err
	}
	if path == "" {
		path = filepath.Join(c.outputDir, "download_"+entry.Version.String()+".bin")
	}
	d := client.Download{Entry: entry, Path: path, Afresh: c.noResume}
	if c.progress != nil {
		d.Progress = func(p fetch.Progress) { c.progress(c.progressOf(p)) }
	}
	m, went, err := c.client.Download(ctx, d)
	if err != nil {
		return Result{}, err
	}
	return Result{Version: versionOf(entry.Version, m), Path: path, Progress: c.progressOf(went)}, nil
}

func (c *Client) progressOf(p fetch.Progress) Progress {
	q := Progress{
		Version: p.Version.String(), Size: p.Size, Done: p.Done, Resumed: p.Resumed, Received: p.Received, Peers: p.Peers, Wasted: p.Wasted,
		Given: c.Given(), Elapsed: p.Elapsed, Speed: p.Speed,
	}
	for _, u := range p.Upstreams {
		v := Upstream{URL: u.URL, Peer: u.Peer, State: u.State, Transfers: u.Transfers, Received: u.Received, Speed: u.Speed}
		if u.Err != nil {
			v.Err = strings.TrimPrefix(strings.TrimPrefix(u.Err.Error(), u.URL), ": ")
		}
		q.Upstreams = append(q.Upstreams, v)
	}
	return q
}

// Close gives back what [NewClient] took.
func (c *Client) Close() error {
	c.pool.Close()
	return c.client.Unshare()
}

func versionOf(v shard.Version, m shard.Manifest) Version {
	return Version{
		Name: v.String(), File: m.Name, Size: m.Size, ShardSize: m.ShardSize, Shards: len(m.Shards), Date: m.Date,
		Digest: m.Digest.String(),
	}
}
