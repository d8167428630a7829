package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/shardcast/shardcast"
)

// level is a flag's log level, by the names that Python has for them.
type level slog.Level

// levels are the names, as they are written.
var levels = map[string]slog.Level{
	"DEBUG":    slog.LevelDebug,
	"INFO":     slog.LevelInfo,
	"WARNING":  slog.LevelWarn,
	"ERROR":    slog.LevelError,
	"CRITICAL": slog.LevelError + 4,
}

// Set reads the flag.
func (l *level) Set(text string) error {
	known, ok := levels[strings.ToUpper(text)]
	if !ok {
		return errors.New("want DEBUG, INFO, WARNING, ERROR or CRITICAL")
	}
	*l = level(known)
	return nil
}

// String returns the name.
func (l *level) String() string {
	for name, known := range levels {
		if known == slog.Level(*l) {
			return name
		}
	}
	return slog.Level(*l).String()
}

// Type is what stands for the value in the help text.
func (l *level) Type() string { return "LEVEL" }

// LogFlag adds --log-level to flags and returns what makes the logger that writes
// to w, which is stderr or a way there, once they are read.
func LogFlag(flags *pflag.FlagSet) func(w io.Writer) *slog.Logger {
	l := level(slog.LevelInfo)
	flags.Var(&l, "log-level", "least level to log on stderr: DEBUG, INFO, WARNING, ERROR or CRITICAL")
	Env(flags, "log-level", "SHARDCAST_LOG_LEVEL")
	return func(w io.Writer) *slog.Logger {
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.Level(l)}))
	}
}

// limitRate adds --limit-rate to flags, for what is sent or fetched.
func limitRate(flags *pflag.FlagSet, value *Rate, what string) {
	flags.Var(value, "limit-rate", "bytes per second "+what+", at most: 50MB/s, 64MiB/s or 50000000 (default no limit)")
}

// ServerFlags are where a server listens, how it answers, how much it keeps and how much
// it sends.
type ServerFlags struct {
	Host        string
	Port        Port
	Dialect     Dialect
	MaxVersions Count

	// NoStatusPage is for none at / and /status.json.
	NoStatusPage bool

	rate, ratePerClient               Rate
	connections, connectionsPerClient Count
}

// Listen adds --host, --port, --dialect and --no-status-page to flags.
func (f *ServerFlags) Listen(flags *pflag.FlagSet) {
	f.Port = shardcast.DefaultPort
	flags.StringVar(&f.Host, "host", "", "`NAME` or address of the interface to listen on (default all)")
	flags.Var(&f.Port, "port", "TCP port to listen on; 0 is any that is free")
	Env(flags, "port", "SHARDCAST_HTTP_PORT")
	f.Dialect = "0.1"
	flags.Var(&f.Dialect, "dialect",
		"release of the Python package, 0.1 or 0.3, whose clients and middles are answered at the root; those of both are at /py01 and /py03")
	Env(flags, "dialect", "SHARDCAST_DIALECT")
	flags.BoolVar(&f.NoStatusPage, "no-status-page", false, "do not show at / and /status.json what the server has and does, and for whom")
}

// Keep adds --max-versions to flags.
func (f *ServerFlags) Keep(flags *pflag.FlagSet) {
	f.MaxVersions = shardcast.DefaultMaxVersions
	flags.Var(&f.MaxVersions, "max-versions", "versions to keep, up to 10000; older ones are retired")
	Env(flags, "max-versions", "SHARDCAST_MAX_DISTRIBUTION_FOLDERS")
}

// Limit adds to flags what bounds the shards that are sent; what is said to be
// bounded by --limit-rate.
func (f *ServerFlags) Limit(flags *pflag.FlagSet, what string) {
	limitRate(flags, &f.rate, what)
	flags.Var(&f.ratePerClient, "limit-rate-per-client",
		"bytes per second of shards to send to one client, at most; clients behind one NAT or proxy count as one (default no limit)")
	flags.Var(&f.connections, "max-connections",
		"shards to send at the same time, beyond which 503 is answered; idle connections and small requests do not count (default no limit)")
	flags.Var(&f.connectionsPerClient, "max-connections-per-client",
		"shards to send to one client at the same time; clients behind one NAT or proxy count as one (default no limit)")
}

// Limits returns what the flags of Limit say.
func (f *ServerFlags) Limits() shardcast.ServerLimits {
	return shardcast.ServerLimits{
		LimitRate:               int64(f.rate),
		LimitRatePerClient:      int64(f.ratePerClient),
		MaxConnections:          int(f.connections),
		MaxConnectionsPerClient: int(f.connectionsPerClient),
	}
}

// SwarmFlags are whether nodes that fetch from the same server swap shards, and where they
// may be.
type SwarmFlags struct {
	swarm bool
	allow Prefixes
}

// Add adds --swarm and --swarm-allow to flags; what is what the former does, and where the
// addresses that the latter allows.
func (f *SwarmFlags) Add(flags *pflag.FlagSet, what, where string) {
	flags.BoolVar(&f.swarm, "swarm", false, what)
	flags.Var(&f.allow, "swarm-allow",
		"addresses, such as 10.0.0.0/8, "+where+"; separated by commas; may be given again (default none)")
}

// What servers do with --swarm, and allow.
const (
	TellPeers = "tell nodes that fetch from here of one another, to swap shards: /peers.txt lists some of those that can be reached, each at the address that it comes from"
	PeersAt   = "that a node may say to be at though it comes from elsewhere, as through a proxy; this server connects to what is said"
)

// Options returns what the flags say.
func (f *SwarmFlags) Options() shardcast.SwarmOptions {
	return shardcast.SwarmOptions{Swarm: f.swarm, SwarmAllow: f.allow}
}

// FetchFlags are how and from whom to fetch.
type FetchFlags struct {
	// Servers are who the list names.
	Servers Addresses

	timeout, fastWait, slowWait         Seconds
	attempts, fastAttempts, concurrency Count
	rate                                Rate
	roots                               Roots

	name string // of the flag for Servers
}

// Add adds to flags the list of servers under name, and what else there is to
// say of fetching.
func (f *FetchFlags) Add(flags *pflag.FlagSet, name, usage string) {
	f.name = name
	flags.Var(&f.Servers, name, usage+": host, host:port or http(s):// URL, or dns+http://name:port for all addresses of a name as they change, separated by commas; the port is 8000 unless SHARDCAST_HTTP_PORT says otherwise")
	Env(flags, name, "IP_ADDR_LIST")
	for _, flag := range []struct {
		value    pflag.Value
		initial  string
		name     string
		usage    string
		variable string
	}{
		{&f.timeout, seconds(shardcast.DefaultTimeout), "timeout", "seconds that a server may send nothing", "SHARDCAST_HTTP_TIMEOUT"},
		{&f.attempts, fmt.Sprint(shardcast.DefaultAttempts), "attempts", "times to ask all servers for a shard", "SHARDCAST_RETRY_ATTEMPTS"},
		{&f.fastAttempts, fmt.Sprint(shardcast.DefaultFastAttempts), "fast-attempts", "attempts that are followed by the fast interval", "SHARDCAST_FAST_RETRY_ATTEMPTS"},
		{&f.fastWait, seconds(shardcast.DefaultFastWait), "fast-interval", "seconds between the first attempts", "SHARDCAST_FAST_RETRY_INTERVAL"},
		{&f.slowWait, seconds(shardcast.DefaultSlowWait), "slow-interval", "seconds between later attempts", "SHARDCAST_SLOW_RETRY_INTERVAL"},
		{&f.concurrency, fmt.Sprint(shardcast.DefaultConcurrency), "concurrency", "shards to fetch at once", "SHARDCAST_MAX_CONCURRENT_DOWNLOADS"},
	} {
		if err := flag.value.Set(flag.initial); err != nil {
			panic(err) // our own default is out of its range
		}
		flags.Var(flag.value, flag.name, flag.usage)
		Env(flags, flag.name, flag.variable)
	}
	flags.Var(&f.roots, "ca-file", "certificates in PEM that https:// servers are verified by, instead of the system's")
	Env(flags, "ca-file", "SHARDCAST_CA_FILE")
}

// Limit adds --limit-rate to flags.
func (f *FetchFlags) Limit(flags *pflag.FlagSet) {
	limitRate(flags, &f.rate, "of shards to fetch, and with --swarm of those to send")
}

func seconds(d time.Duration) string {
	s := Seconds(d)
	return s.String()
}

// Options returns what the flags say, and an error with exit code 2 if no server
// is named.
func (f *FetchFlags) Options() (servers []string, port int, opts shardcast.FetchOptions, err error) {
	if len(f.Servers) == 0 {
		err := fmt.Errorf("no server to fetch from: give --%s or set IP_ADDR_LIST", f.name)
		return nil, 0, shardcast.FetchOptions{}, Usage(err)
	}
	p := Port(shardcast.DefaultPort)
	if value := os.Getenv("SHARDCAST_HTTP_PORT"); value != "" {
		if err := p.Set(value); err != nil || p == 0 {
			return nil, 0, shardcast.FetchOptions{}, Usage(errors.New("environment variable SHARDCAST_HTTP_PORT: want a port from 1 to 65535"))
		}
	}
	return f.Servers, int(p), shardcast.FetchOptions{
		Timeout:      time.Duration(f.timeout),
		Attempts:     int(f.attempts),
		FastAttempts: int(f.fastAttempts),
		FastWait:     time.Duration(f.fastWait),
		SlowWait:     time.Duration(f.slowWait),
		Concurrency:  int(f.concurrency),
		LimitRate:    int64(f.rate),
		RootCAs:      f.roots.Pool,
	}, nil
}
