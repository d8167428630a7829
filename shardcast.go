// Package shardcast sends a large file from one machine to many, a new version
// of it every few minutes, over plain HTTP.
//
// An [Origin] cuts a file into shards and serves them; a [Middle] fetches the
// versions of its upstreams and serves them again, in any number of tiers; a
// [Client] lists versions, fetches shards concurrently from the fastest servers,
// and assembles the file, verified by SHA-256. Either the file is right or there
// is no file.
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
	"strings"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/conns"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/follow"
	"github.com/shardcast/shardcast/internal/peering"
	"github.com/shardcast/shardcast/internal/policy"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/slots"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/tree"
	"github.com/shardcast/shardcast/internal/wire"
)

// AutoShardSize is a shard size that depends on the file, see [OriginOptions].
const AutoShardSize = -1

// Defaults of the options, the same as the Python package's.
const (
	DefaultPort           = fetch.DefaultPort
	DefaultShardSize      = 50_000_000                // bytes
	DefaultMaxVersions    = policy.DefaultMaxVersions // of a data directory without settings
	DefaultCheckInterval  = 30 * time.Second
	DefaultTimeout        = fetch.DefaultTimeout
	DefaultAttempts       = fetch.DefaultAttempts
	DefaultFastAttempts   = fetch.DefaultFastAttempts
	DefaultFastWait       = fetch.DefaultFastWait
	DefaultSlowWait       = fetch.DefaultSlowWait
	DefaultConcurrency    = fetch.DefaultConcurrency
	DefaultFarConcurrency = fetch.DefaultFarConcurrency
	DefaultWatchGlob      = "*"
	DefaultWatchSettle    = 2 * time.Second
	DefaultOriginDir      = "./data"
	DefaultMiddleDir      = "./middle_data"
	DefaultOutputDir      = "./downloads"
)

// maxPort is the highest TCP port.
const maxPort = 65_535

// Errors that callers can tell apart with [errors.Is].
var (
	// ErrNoVersion means that no server offers the version, or no longer does.
	ErrNoVersion = fetch.ErrNoVersion

	// ErrPartial means that the partial file of a failed download stays: the same download continues it.
	ErrPartial = client.ErrPartial

	// ErrIntegrity means that no server has the right bytes.
	ErrIntegrity = fetch.ErrIntegrity

	// ErrUnreachable means that no server answers.
	ErrUnreachable = fetch.ErrUnreachable

	// ErrTooLarge means that a version is larger than the options allow.
	ErrTooLarge = fetch.ErrTooLarge

	// ErrChanged means that a file, or anything in a directory, changed during its broadcast.
	ErrChanged = shard.ErrChanged

	// ErrUnpublishable means that a directory has a link, a device or a name that no version
	// can have.
	ErrUnpublishable = tree.ErrUnpublishable

	// ErrLabel means that [Client.Follow] has no path for a version, because it lacks a label
	// that the template wants, or because the label's value cannot be part of a path.
	ErrLabel = follow.ErrLabel

	// ErrNewer means that [Client.Follow] has left out a version, because a newer one came first.
	ErrNewer = follow.ErrNewer

	// ErrNoSpace means that the disk has no room for the file.
	ErrNoSpace = disk.ErrNoSpace

	// ErrLineage means that a version does not fit into its run: its number is taken by another content,
	// the version that it needs is not there, the chain of those would be too long, or another run has
	// begun.
	ErrLineage = policy.ErrLineage

	// ErrInUse means that another server holds the data directory.
	ErrInUse = store.ErrInUse

	// ErrSettings means that the settings of a data directory are not valid; the error names
	// their file and the remedy. Until it is mended, no version is published or retired there.
	ErrSettings = store.ErrSettings

	// ErrOptions means that an option is out of its range. The text of the error names it, by
	// its field, behind that of ErrOptions.
	ErrOptions = errors.New("bad option")

	// ErrNotInitialized is what [Broadcast] and [Shutdown] return before
	// [Initialize] or after [Shutdown].
	ErrNotInitialized = errors.New("shardcast is not initialized: call Initialize first")
)

// FetchOptions say how a [Middle] or [Client] fetches. The zero value is a good
// one.
type FetchOptions struct {
	// Timeout is the longest silence of a server before it counts as failed. Zero means
	// 30 s.
	Timeout time.Duration

	// Attempts is the number of rounds over all servers that list a shard before the fetch
	// fails. Zero means 5.
	Attempts int

	// FastAttempts is the number of attempts that a wait of FastWait follows; SlowWait
	// follows the others. Zero means 3.
	FastAttempts int

	// FastWait and SlowWait are the waits between attempts, up to a quarter shorter or
	// longer at random. Zero means 2 s and 15 s.
	FastWait, SlowWait time.Duration

	// Concurrency bounds the shards in flight. Zero means [DefaultConcurrency], and [DefaultFarConcurrency] where all
	// servers are 20 ms away or more, by their round trips.
	Concurrency int

	// LimitRate bounds the throughput from all servers together, in bytes per second. Zero
	// means no limit.
	LimitRate int64

	// MaxSize is the size of the largest version that is fetched, in bytes; a larger one is
	// refused with [ErrTooLarge] before its first byte. Zero means no limit.
	MaxSize int64

	// VerifyStream has the digest of the whole of a signed version computed, too, although its
	// shards are verified by the publisher's word. It has no effect without a key.
	VerifyStream bool

	// RootCAs sign the certificates of https:// servers. Nil means those that the system
	// trusts.
	RootCAs *x509.CertPool

	// CAFile has such certificates in PEM, in place of RootCAs. It is read again when it changes;
	// connections are made by what it has then. Empty means RootCAs.
	CAFile string

	// CertFile and KeyFile are a certificate of this node, and its private key, in PEM, for
	// servers that ask for one. The files are read again when they change. Empty means none.
	CertFile, KeyFile string

	// TokenFile has the token that this node shows to all its servers but those with a
	// password of their own: https:// servers, and those on this machine; with others it is an
	// error. It is read again when it changes. Empty means none.
	TokenFile string

	// Credentials are names and passwords for servers whose URL has none, by host:port or
	// host, in lower case. They are sent in the clear to servers without https://. Nil means
	// none.
	Credentials map[string]*url.Userinfo
}

// pool returns a pool of the servers, whose port where an address has none is the port, or
// the default for 0; it fills in those fields of others that o has.
func (o FetchOptions) pool(servers []string, port int, others fetch.Options) (*fetch.Pool, error) {
	if port < 0 || port > maxPort {
		return nil, fmt.Errorf("%w: port %d, want 1 to %d", ErrOptions, port, maxPort)
	}
	var upstreams []*url.URL
	for _, server := range servers {
		u, err := fetch.ParseAddress(server, cmp.Or(port, DefaultPort))
		if err != nil {
			return nil, fmt.Errorf("%w: Servers: %w", ErrOptions, err)
		}
		if u.User == nil {
			host := strings.ToLower(u.Hostname())
			u.User = cmp.Or(o.Credentials[net.JoinHostPort(host, u.Port())], o.Credentials[host])
		}
		upstreams = append(upstreams, u)
		if port == 0 && !fetch.HasPort(server) {
			others.Portless = append(others.Portless, u)
		}
	}
	others.Upstreams, others.Timeout, others.Attempts, others.FastAttempts = upstreams, o.Timeout, o.Attempts,
		o.FastAttempts
	others.FastWait, others.SlowWait, others.Concurrency, others.LimitRate = o.FastWait, o.SlowWait, o.Concurrency,
		o.LimitRate
	others.MaxSize, others.VerifyStream = o.MaxSize, o.VerifyStream
	var err error
	if others.RootCAs, err = o.authorities(others.Logger); err != nil {
		return nil, err
	}
	if others.Identity, err = o.identity(upstreams, others.Logger); err != nil {
		return nil, err
	}
	isSecure := func(u *url.URL) bool { return strings.HasSuffix(u.Scheme, "https") }
	if others.Swarm && slices.ContainsFunc(upstreams, isSecure) {
		if others.Node, err = peering.NewNode(); err != nil {
			return nil, err
		}
	}
	pool, err := fetch.New(others)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	return pool, nil
}

// ServerLimits bound the shards that an [Origin] or [Middle] sends; other answers are small
// and do not count. The zero value sets no limit. A client is an IP address, so clients
// behind one NAT or proxy count as one.
type ServerLimits struct {
	// LimitRate bounds the throughput to all clients together, in bytes per second. Zero
	// means no limit.
	LimitRate int64

	// LimitRatePerClient bounds the throughput to one client, in bytes per second. Zero
	// means no limit.
	LimitRatePerClient int64

	// MaxConnections bounds the shards that the server sends at the same time; a request
	// for one more gets 503 and Retry-After: 2. Zero means no limit.
	MaxConnections int

	// MaxConnectionsPerClient bounds the shards that the server sends to one client at the
	// same time. Zero means no limit.
	MaxConnectionsPerClient int
}

// WebOptions say which web pages may read from an [Origin] or [Middle]: a browser inside a
// network reaches servers there for any page that it shows. The zero value is for the
// server's own status page, under the names of AllowHosts.
type WebOptions struct {
	// AllowHosts are names under which the server answers, besides IP addresses, names
	// without dots, names of local networks such as origin.local, and the name of the machine.
	// Nodes of shardcast get an answer under any name. "*" stands for all names.
	AllowHosts []string

	// CORS are the sites, such as "https://dashboard.example.com", whose pages may read
	// versions. "*" stands for all sites. Empty means none.
	CORS []string
}

// check returns an error that matches ErrOptions if o names what can be no host or site.
func (o WebOptions) check() error {
	for _, host := range o.AllowHosts {
		if host == "" || strings.ContainsAny(host, ":/ ") {
			return fmt.Errorf("%w: Web.AllowHosts: %q, want a name without a port, or *", ErrOptions, host)
		}
	}
	for _, site := range o.CORS {
		u, err := url.Parse(site)
		if site != "*" && (err != nil || u.Host == "" || u.Scheme+"://"+u.Host != site) {
			return fmt.Errorf("%w: Web.CORS: %q, want a site such as https://dashboard.example.com, or *",
				ErrOptions, site)
		}
	}
	return nil
}

// serving returns the options of a server on host with these limits that speaks dialect, by the
// congestion control.
func (l ServerLimits) serving(dialect, host, congestion string, web WebOptions) (server.Options, error) {
	spoken, err := server.ParseDialect(dialect)
	if err != nil {
		return server.Options{}, fmt.Errorf("%w: Dialect: %w", ErrOptions, err)
	}
	if err := web.check(); err != nil {
		return server.Options{}, err
	}
	if congestion, err = controlOf(congestion); err != nil {
		return server.Options{}, err
	}
	if l.LimitRate < 0 || l.LimitRatePerClient < 0 || l.MaxConnections < 0 || l.MaxConnectionsPerClient < 0 {
		return server.Options{},
			fmt.Errorf("%w: a limit is negative: %d and %d bytes per second, %d and %d connections",
				ErrOptions, l.LimitRate, l.LimitRatePerClient, l.MaxConnections, l.MaxConnectionsPerClient)
	}
	return server.Options{
		Dialect: spoken, Congestion: congestion,
		Web: server.Web{
			Names: wire.Names{
				Allowed: append([]string{host}, web.AllowHosts...), Machine: sync.OnceValue(server.MachineNames),
			},
			Origins: slices.Clone(web.CORS),
		},
		Limits: slots.Limits{
			Rate: l.LimitRate, RatePerClient: l.LimitRatePerClient,
			Connections: l.MaxConnections, ConnectionsPerClient: l.MaxConnectionsPerClient,
		},
	}, nil
}

// controlOf returns the congestion control of an option, or an error that matches ErrOptions.
func controlOf(option string) (string, error) {
	name := cmp.Or(option, conns.Auto)
	if err := conns.CheckCongestion(name); err != nil {
		return "", fmt.Errorf("%w: Congestion: %w", ErrOptions, err)
	}
	return name, nil
}

// SwarmOptions say whether nodes of the same server swap shards, so that the server sends
// each about once. The zero value means no swarm.
type SwarmOptions struct {
	// Enabled has an [Origin] or [Middle] list up to 16 of the nodes that follow it and
	// announce a port of their own. The server lists a node at the address of its requests,
	// after it has reached the node there, for 15 s from each request. With Enabled a
	// Middle and a [Client] are such nodes of their own servers. The nodes of a server that
	// speaks TLS swap by TLS, too: each is known by the key that the server lists, and reads from
	// another one by a ticket that the server signs.
	Enabled bool

	// Port is the TCP port at which a Middle serves the peers of https:// upstreams, beside its
	// own. Zero, or a negative one, means any free port.
	Port int

	// Allow are further addresses: for a server, those that a node may announce in place
	// of the address of its requests, and to which the server connects; for a node, those
	// of peers outside the networks in which its server may list them. Empty means none.
	Allow []netip.Prefix
}

// check returns an error that matches ErrOptions if o contradicts itself.
func (o SwarmOptions) check() error {
	for _, p := range o.Allow {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("%w: Swarm.Allow: %v, want prefixes such as 10.0.0.0/8 or 2001:db8::/32", ErrOptions,
				p)
		}
	}
	if o.Port > maxPort {
		return fmt.Errorf("%w: Swarm.Port: %d, want up to %d", ErrOptions, o.Port, maxPort)
	}
	if !o.Enabled && len(o.Allow) > 0 {
		return fmt.Errorf("%w: Swarm.Allow has no effect without Swarm.Enabled", ErrOptions)
	}
	return nil
}

// members returns the list of a server's nodes, which speak TLS if it does, or nil without a
// swarm.
func (o SwarmOptions) members(secure bool, logger *slog.Logger) (*swarm.Members, error) {
	if err := o.check(); err != nil || !o.Enabled {
		return nil, err
	}
	members := swarm.MembersOptions{Allow: slices.Clone(o.Allow), Probe: server.Reach, Logger: logger}
	if secure {
		var err error
		if members.Issuer, err = swarm.NewIssuer(); err != nil {
			return nil, err
		}
	}
	return swarm.NewMembers(members), nil
}

// build is the version of this program, as far as it is known.
func build() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return cmp.Or(info.Main.Version, "(devel)")
	}
	return "(unknown)"
}

// running is the Origin of [Initialize].
type running struct {
	origin     *Origin
	ctx        context.Context //nolint:containedctx // ends with Shutdown, and ends broadcasts
	stop       context.CancelFunc
	ended      chan error
	broadcasts sync.WaitGroup
}

var process struct {
	sync.Mutex // guards running

	running *running
}

// Initialize opens the data directory and begins to serve it, on port 8000 of all
// interfaces unless options differ. It takes at most one OriginOptions, and ignores
// their DataDir and Ready. It returns as soon as the server listens. Errors match
// [ErrInUse] and [ErrOptions], or are those of the file system and the network.
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

// Shutdown ends broadcasts, takes no new requests, finishes its answers within 30
// seconds, and releases the data directory and the port. It returns the error that
// ended the server, if any, and [ErrNotInitialized] before [Initialize].
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
		// The network package repeats the address around the reason.
		if op := new(net.OpError); errors.As(err, &op) {
			err = op.Err
		}
		return nil, fmt.Errorf("listen on %s: %w; choose another host or port", address, err)
	}
	return ln, nil
}
