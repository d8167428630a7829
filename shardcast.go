// Package shardcast sends a large file from one machine to many, a new version
// of it every few minutes, over plain HTTP.
//
// An [Origin] cuts a file into shards and serves them; a [Middle] fetches what
// its upstreams offer and serves it again, in any number of tiers; a [Client]
// lists versions, fetches shards concurrently from the servers that prove
// fastest, and puts the file together, verified by SHA-256. Either the file is
// right or there is no file.
//
// For a program that only publishes, three functions do:
//
//	err := shardcast.Initialize("./data")          // serve ./data on port 8000
//	version, err := shardcast.Broadcast("weights") // "v1"
//	err = shardcast.Shutdown()
//
// They keep one [Origin] for the process; programs that want several, or a
// context, make their own with [NewOrigin].
package shardcast

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/swarm"
)

// AutoShardSize is a shard size that depends on the file, see [OriginOptions].
const AutoShardSize = -1

// Defaults of the options, the same as the Python package's.
const (
	DefaultPort          = fetch.DefaultPort
	DefaultShardSize     = 50_000_000 // bytes
	DefaultMaxVersions   = 15
	DefaultCheckInterval = 30 * time.Second
	DefaultTimeout       = fetch.DefaultTimeout
	DefaultAttempts      = fetch.DefaultAttempts
	DefaultFastAttempts  = fetch.DefaultFastAttempts
	DefaultFastWait      = fetch.DefaultFastWait
	DefaultSlowWait      = fetch.DefaultSlowWait
	DefaultConcurrency   = fetch.DefaultConcurrency
	DefaultWatchGlob     = "*"
	DefaultWatchSettle   = 2 * time.Second
	DefaultOriginDir     = "./data"
	DefaultMiddleDir     = "./middle_data"
	DefaultOutputDir     = "./downloads"
)

// maxPort is the highest TCP port.
const maxPort = 65_535

// Errors that callers can tell apart with [errors.Is].
var (
	// ErrNoVersion means that no server offers the version, or not any more.
	ErrNoVersion = fetch.ErrNoVersion

	// ErrIntegrity means that no server has the right bytes.
	ErrIntegrity = fetch.ErrIntegrity

	// ErrUnreachable means that no server answers.
	ErrUnreachable = fetch.ErrUnreachable

	// ErrChanged means that a file was written to while it was being broadcast.
	ErrChanged = shard.ErrChanged

	// ErrNoSpace means that the disk has no room for the file.
	ErrNoSpace = disk.ErrNoSpace

	// ErrInUse means that another server keeps the data directory.
	ErrInUse = store.ErrInUse

	// ErrOptions means that an option is out of its range.
	ErrOptions = errors.New("bad option")

	// ErrNotInitialized is what [Broadcast] and [Shutdown] return before
	// [Initialize] or after [Shutdown].
	ErrNotInitialized = errors.New("shardcast is not initialized: call Initialize first")
)

// FetchOptions say how a [Middle] or [Client] fetches. The zero value is a good
// one.
type FetchOptions struct {
	// Timeout is how long a server may send nothing before it has failed. Zero
	// means 30 s.
	Timeout time.Duration

	// Attempts is how often something is asked of all servers that should have it
	// before that fails. Zero means 5.
	Attempts int

	// FastAttempts is how many of the attempts are followed by a wait of FastWait;
	// the others are followed by SlowWait. Zero means 3.
	FastAttempts int

	// FastWait and SlowWait are the waits between attempts, made up to a quarter
	// shorter or longer at random. Zero means 2 s and 15 s.
	FastWait, SlowWait time.Duration

	// Concurrency bounds the shards in flight. Zero means 10.
	Concurrency int

	// LimitRate is how much is fetched from all servers together, in bytes per
	// second at most. Zero means no limit.
	LimitRate int64

	// RootCAs are those who are trusted to sign the certificates of https:// servers. Nil
	// is for those that the system trusts.
	RootCAs *x509.CertPool
}

// pool returns the servers to fetch from, with others as far as o does not say it.
func (o FetchOptions) pool(servers []string, defaultPort int, others fetch.Options) (*fetch.Pool, error) {
	if defaultPort < 1 || defaultPort > maxPort {
		return nil, fmt.Errorf("%w: port %d, want 1 to %d", ErrOptions, defaultPort, maxPort)
	}
	var upstreams []*url.URL
	for _, server := range servers {
		u, err := fetch.ParseAddress(server, defaultPort)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrOptions, err)
		}
		upstreams = append(upstreams, u)
	}
	others.Upstreams, others.Timeout, others.Attempts, others.FastAttempts = upstreams, o.Timeout, o.Attempts, o.FastAttempts
	others.FastWait, others.SlowWait, others.Concurrency, others.LimitRate = o.FastWait, o.SlowWait, o.Concurrency, o.LimitRate
	others.RootCAs = o.RootCAs
	pool, err := fetch.New(others)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	return pool, nil
}

// ServerLimits bound what an [Origin] or [Middle] sends of shards; what else it
// is asked for is small, and not counted. The zero value sets no limit. Clients are
// told apart by their IP address, so those behind one NAT or proxy count as one.
type ServerLimits struct {
	// LimitRate is how much is sent to all clients together, in bytes per second at
	// most. Zero means no limit.
	LimitRate int64

	// LimitRatePerClient is how much is sent to one client, in bytes per second at
	// most. Zero means no limit.
	LimitRatePerClient int64

	// MaxConnections bounds the shards that are being sent at the same time; who
	// asks for one more is told to come again in 2 s. Zero means no limit.
	MaxConnections int

	// MaxConnectionsPerClient bounds the shards that are being sent to one client
	// at the same time. Zero means no limit.
	MaxConnectionsPerClient int
}

// serving returns what the server is to keep to, and which dialect it is to speak.
func (l ServerLimits) serving(dialect string) (server.Options, error) {
	spoken, err := server.ParseDialect(dialect)
	if err != nil {
		return server.Options{}, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	if l.LimitRate < 0 || l.LimitRatePerClient < 0 || l.MaxConnections < 0 || l.MaxConnectionsPerClient < 0 {
		return server.Options{}, fmt.Errorf("%w: a limit is negative: %d and %d bytes per second, %d and %d connections",
			ErrOptions, l.LimitRate, l.LimitRatePerClient, l.MaxConnections, l.MaxConnectionsPerClient)
	}
	return server.Options{Dialect: spoken, Limits: server.Limits{
		Rate: l.LimitRate, RatePerClient: l.LimitRatePerClient,
		Connections: l.MaxConnections, ConnectionsPerClient: l.MaxConnectionsPerClient,
	}}, nil
}

// SwarmOptions say whether nodes that follow the same server swap shards, so that it sends
// each about once; docs/protocol.md says how. The zero value has nobody told anything.
type SwarmOptions struct {
	// Swarm has an [Origin] or [Middle] list, to whoever asks, up to 16 of the nodes that
	// follow it and have said on which port they serve. A node is listed at the address that
	// it comes from, once the server has reached it there, for 15 s from each time that it
	// has asked. A Middle and a [Client] are such nodes of their servers with it.
	Swarm bool

	// SwarmAllow are addresses, of servers' nodes those that a node may also say to be at,
	// whatever it comes from, and which the server then connects to; and of nodes those where
	// others may be besides those that their servers could have themselves. Empty is for
	// none.
	SwarmAllow []netip.Prefix
}

// check says what is wrong with o.
func (o SwarmOptions) check() error {
	for _, p := range o.SwarmAllow {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("%w: %v is not a range of addresses that a swarm may allow, want one such as 10.0.0.0/8 or 2001:db8::/32", ErrOptions, p)
		}
	}
	if !o.Swarm && len(o.SwarmAllow) > 0 {
		return fmt.Errorf("%w: it is said which addresses a swarm may have, and there is no swarm", ErrOptions)
	}
	return nil
}

// members returns who follows a server, or nil if they are to be told nothing.
func (o SwarmOptions) members(logger *slog.Logger) (*swarm.Members, error) {
	if err := o.check(); err != nil || !o.Swarm {
		return nil, err
	}
	return swarm.NewMembers(swarm.MembersOptions{Allow: slices.Clone(o.SwarmAllow), Probe: server.Reach, Logger: logger}), nil
}

// build is the version of the program that this is part of, as far as that is known.
func build() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return cmp.Or(info.Main.Version, "(devel)")
	}
	return "(unknown)"
}

// running is the Origin of [Initialize].
type running struct {
	origin     *Origin
	ctx        context.Context //nolint:containedctx // its life, which Broadcast takes part in
	stop       context.CancelFunc
	ended      chan error
	broadcasts sync.WaitGroup
}

var process struct {
	sync.Mutex // guards running

	running *running
}

// Initialize opens the data directory and begins to serve it, on port 8000 of
// all interfaces unless options say otherwise; at most one OriginOptions may be
// given, whose DataDir and Ready are not looked at. It returns as soon as connections are
// taken. Errors match [ErrInUse] and [ErrOptions], or are those of the file
// system and the network.
func Initialize(dataDir string, options ...OriginOptions) error {
	process.Lock()
	defer process.Unlock()
	if process.running != nil {
		return errors.New("shardcast is initialized already: call Shutdown first")
	}
	var opts OriginOptions
	if len(options) > 1 {
		return fmt.Errorf("%w: %d OriginOptions where one is taken", ErrOptions, len(options))
	} else if len(options) == 1 {
		opts = options[0]
	}
	opts.DataDir = dataDir
	begun := make(chan struct{})
	opts.Ready = func() { close(begun) }
	o, err := NewOrigin(opts)
	if err != nil {
		return err
	}
	ln, err := o.Listen()
	if err != nil {
		return errors.Join(err, o.Close())
	}
	r := &running{origin: o, ended: make(chan error, 1)}
	r.ctx, r.stop = context.WithCancel(context.Background())
	go func() { r.ended <- o.Serve(r.ctx, ln) }()
	select {
	case err := <-r.ended:
		r.stop()
		return errors.Join(err, o.Close())
	case <-begun:
		process.running = r
		return nil
	}
}

// Broadcast publishes the file path and returns its version, such as "v1". See
// [Origin.Broadcast] for the errors; before [Initialize] it is
// [ErrNotInitialized]. [Shutdown] ends it.
func Broadcast(path string) (version string, err error) {
	process.Lock()
	r := process.running
	if r == nil {
		process.Unlock()
		return "", ErrNotInitialized
	}
	r.broadcasts.Add(1)
	process.Unlock()
	defer r.broadcasts.Done()
	return r.origin.Broadcast(r.ctx, path)
}

// Shutdown ends broadcasts, takes no new requests, finishes what is being sent,
// for 30 seconds at most, and gives back what [Initialize] took. It returns what
// went wrong with serving, and [ErrNotInitialized] if nothing was initialized.
func Shutdown() error {
	process.Lock()
	defer process.Unlock()
	r := process.running
	if r == nil {
		return ErrNotInitialized
	}
	process.running = nil
	r.stop()
	r.broadcasts.Wait()
	return errors.Join(<-r.ended, r.origin.Close())
}

// listen listens on host and port.
func listen(host string, port int) (net.Listener, error) {
	address := net.JoinHostPort(host, strconv.Itoa(port))
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		// What the network package puts around the reason says the same again.
		if op := new(net.OpError); errors.As(err, &op) {
			err = op.Err
		}
		return nil, fmt.Errorf("listen on %s: %w; choose another host or port", address, err)
	}
	return ln, nil
}
