package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"

	"github.com/spf13/pflag"

	"github.com/shardcast/shardcast"
)

// The functions below add the flags that several commands have. Each flag sets a field of
// the library's options, which begins with its default.

// ServersFlag adds the list of servers to fetch from under name.
func ServersFlag(flags *pflag.FlagSet, servers *[]string, name, usage string) {
	flags.Var((*Addresses)(servers), name, usage+": host, host:port, URL or dns+http://name:port, separated by commas")
	Note(flags, name, "Where an address has no port it is SHARDCAST_HTTP_PORT, or else 8000, and 80 where 8000 "+
		"refuses. dns+http://name:port, or dns+https://, stands for a server at each address of the name, as they "+
		"change.")
}

// QuorumFlag adds --quorum for versions of servers, which usage calls them.
func QuorumFlag(flags *pflag.FlagSet, quorum *int, usage string) {
	flags.Var((*Count)(quorum), "quorum", usage+" that have to list a version that is not asked for by its number "+
		"(default more than half)")
	Note(flags, "quorum", "Those that have been down for a minute do not count. Of two the first is enough, "+
		"or after a minute the second. With --key it has no effect.")
}

// TrustFlags add --key, --feed, --state-dir, which is initial without the flag, and for a command
// that fetches shards --verify-stream.
func TrustFlags(flags *pflag.FlagSet, o *shardcast.TrustOptions, initial string, verifyStream *bool) {
	flags.StringArrayVar(&o.Keys, "key", nil,
		"public `KEY` of the publisher, RWQ... or a file of it; may be repeated (default none)")
	Note(flags, "key", "Then only versions exist that a release lists which one of the keys has signed, whichever "+
		"server sends them, and their shards are verified on all cores. Two keys are for the time in which the "+
		"publisher changes its own.")
	flags.StringVar(&o.Feed, "feed", "", "`NAME` of the list of versions that the key signs (default none)")
	Note(flags, "feed", "It goes with --key; 'shardcast-origin keygen' prints both.")
	flags.StringVar(&o.StateDir, "state-dir", "",
		"`DIRECTORY` of the newest release, which no older one replaces (default "+initial+")")
	if verifyStream != nil {
		flags.BoolVar(verifyStream, "verify-stream", false,
			"with --key: verify the digest of the whole, too, on one core")
	}
	Under(flags, Trust)
}

// RestartFlag adds --accept-restart.
func RestartFlag(flags *pflag.FlagSet, accept *bool) {
	flags.BoolVar(accept, "accept-restart", false, "follow version numbers back when the origin has started over")
	Note(flags, "accept-restart",
		"Without it lower numbers, and those more than 10000 ahead, are left alone with a warning. "+
			"Take it off afterwards. With --key the publisher's release says when numbers begin again.")
}

// ServerPort returns the port of servers whose address in the flag name has none, or 0 if the
// environment states none. It returns an error, as of [Usage], if there are no servers, or no such port.
func ServerPort(servers []string, name string) (int, error) {
	if len(servers) == 0 {
		return 0, Usage(fmt.Errorf("no server to fetch from: give --%s or set IP_ADDR_LIST", name))
	}
	port := Port(0)
	if value := os.Getenv("SHARDCAST_HTTP_PORT"); value != "" {
		if err := port.Set(value); err != nil || port == anyPort {
			return 0, Usage(errors.New("environment variable SHARDCAST_HTTP_PORT: want a port from 1 to 65535"))
		}
	}
	return int(port), nil
}

// WarnOfPasswords warns of passwords in servers that the command line has in the flag name:
// every user of the machine can see them there.
func WarnOfPasswords(flags *pflag.FlagSet, name string, servers []string, logger *slog.Logger) {
	for _, server := range servers {
		if u, err := url.Parse(server); err == nil && u.User != nil && Given(flags, name) {
			logger.Warn("password on the command line, where ps shows it: use --netrc FILE", "flag", "--"+name)
			return
		}
	}
}

// TransferFlags add --timeout, --concurrency, --max-size, --ca-file, --cert, --key-pem, --token-file
// and --netrc.
func TransferFlags(flags *pflag.FlagSet, o *shardcast.FetchOptions) {
	o.Timeout = shardcast.DefaultTimeout
	flags.Var((*Seconds)(&o.Timeout), "timeout", "longest silence of a server, in seconds")
	flags.Var((*Count)(&o.Concurrency), "concurrency",
		"shards to fetch at once (default 10; 20 if all servers are 20 ms away)")
	flags.Var((*Size)(&o.MaxSize), "max-size", "largest version to fetch, in bytes (default no limit)")
	Note(flags, "max-size", "A larger one is refused before its first byte.")
	flags.StringVar(&o.CAFile, "ca-file", "",
		"PEM `FILE` of certificates to verify https:// servers by (default the system's)")
	Note(flags, "ca-file", "FILE is read again when it changes, like those of --cert and --key-pem.")
	flags.StringVar(&o.CertFile, "cert", "",
		"PEM `FILE` of a certificate of this node, for https:// servers that ask for one (default none)")
	flags.StringVar(&o.KeyFile, "key-pem", "", "PEM `FILE` of the private key for --cert (default none)")
	flags.StringVar(&o.TokenFile, "token-file", "",
		"`FILE` of a token for the servers, which other users may not read (default none)")
	Note(flags, "token-file", "All servers get it but those with a password, so they have to be https:// ones or on "+
		"this machine. Peers never do. FILE is read again when it changes.")
	flags.Var(NewNetrc(&o.Credentials), "netrc",
		"`FILE` of names and passwords for servers, as of netrc(5) (default none)")
	Note(flags, "netrc", "It has machine HOST login NAME password PASSWORD, or HOST:PORT, for each server that wants "+
		"them, and only its owner may read it. Credentials in a server's URL come first.")
}

// RetryFlags add --attempts, --fast-attempts, --fast-interval and --slow-interval.
func RetryFlags(flags *pflag.FlagSet, o *shardcast.FetchOptions) {
	o.Attempts, o.FastAttempts = shardcast.DefaultAttempts, shardcast.DefaultFastAttempts
	o.FastWait, o.SlowWait = shardcast.DefaultFastWait, shardcast.DefaultSlowWait
	flags.Var((*Count)(&o.Attempts), "attempts", "rounds over all servers for a shard")
	flags.Var((*Count)(&o.FastAttempts), "fast-attempts", "rounds that the fast interval follows")
	flags.Var((*Seconds)(&o.FastWait), "fast-interval", "wait after a fast round, in seconds")
	flags.Var((*Seconds)(&o.SlowWait), "slow-interval", "wait after a later round, in seconds")
}

// RateFlag adds --limit-rate for the traffic that of names.
func RateFlag(flags *pflag.FlagSet, rate *int64, of string) {
	flags.Var((*Rate)(rate), "limit-rate", "limit for "+of+", in bytes per second (default none)")
	Note(flags, "limit-rate", "50MB/s, 64MiB/s and 50000000 are rates. Shards alone count.")
}

// ListenFlags add --host and --port.
func ListenFlags(flags *pflag.FlagSet, host *string, port *int) {
	*port = shardcast.DefaultPort
	flags.StringVar(host, "host", "", "`NAME` or address of the interface to listen on (default all)")
	flags.Var((*Port)(port), "port", "TCP port to listen on (0: any free port)")
}

// TLSFlags add --tls-cert, --tls-key and --client-ca.
func TLSFlags(flags *pflag.FlagSet, o *shardcast.TLSOptions) {
	flags.StringVar(&o.CertFile, "tls-cert", "",
		"PEM `FILE` of the server's certificate: speak TLS 1.3, and nothing else (default no TLS)")
	Note(flags, "tls-cert", "Certificates between it and its authority follow in FILE. The server reads its files "+
		"again when they change, or at SIGHUP; what is of no use then leaves the ones before in use.")
	flags.StringVar(&o.KeyFile, "tls-key", "", "PEM `FILE` of the private key for --tls-cert (default none)")
	flags.StringVar(&o.ClientCAFile, "client-ca", "",
		"PEM `FILE` of authorities that sign clients' certificates: refuse clients without one (default all may read)")
}

// AccessFlags add --read-tokens, --admin-addr and --open.
func AccessFlags(flags *pflag.FlagSet, o *shardcast.AccessOptions) {
	flags.StringVar(&o.TokensFile, "read-tokens", "",
		"`FILE` of the tokens that readers have to show, a name and a SHA-256 a line (default all may read)")
	Note(flags, "read-tokens", "A third word, admin, admits to the status page, /metrics and /readyz, too. The server "+
		"reads FILE again when it changes. /healthz asks for no token.")
	flags.StringVar(&o.AdminAddr, "admin-addr", "",
		"second `ADDRESS`, HOST:PORT, for the status page, /metrics and /readyz, without tokens (default none)")
	Note(flags, "admin-addr", "They are missing at the first address then. A bare PORT is one of loopback.")
	flags.BoolVar(&o.Open, "open", false, "do not warn that all that reach the server may read")
}

// WebFlags add --allow-host and --cors.
func WebFlags(flags *pflag.FlagSet, o *shardcast.WebOptions) {
	flags.StringArrayVar(&o.AllowHosts, "allow-host", nil,
		"`NAME` under which to answer web browsers and others; may be repeated (* for all)")
	Note(flags, "allow-host", "The server always answers under IP addresses, names without dots, those of local "+
		"networks, such as origin.local, and the machine's own, and nodes of shardcast under any name. "+
		"Others get 421, since a web page may let its name lead to the server to read there.")
	flags.StringArrayVar(&o.CORS, "cors", nil,
		"`SITE`, such as https://dashboard.example.com, whose pages may read versions; may be repeated (* for all)")
}

// LimitFlags add --limit-rate, for the traffic that of names, and the other limits of a
// server.
func LimitFlags(flags *pflag.FlagSet, o *shardcast.ServerLimits, of string) {
	RateFlag(flags, &o.LimitRate, of)
	flags.Var((*Rate)(&o.LimitRatePerClient), "limit-rate-per-client",
		"limit for sending to one client, in bytes per second (default none)")
	flags.Var((*Count)(&o.MaxConnections), "max-connections", "shards to send at the same time (default no limit)")
	Note(flags, "max-connections", "A request for one more gets 503. Idle connections and other requests do not count.")
	flags.Var((*Count)(&o.MaxConnectionsPerClient), "max-connections-per-client",
		"shards to send to one client at the same time (default no limit)")
	for _, name := range []string{"limit-rate-per-client", "max-connections-per-client"} {
		Note(flags, name, "Clients behind one NAT or proxy count as one.")
	}
}

// CongestionFlag adds --congestion for the connections to those that of names.
func CongestionFlag(flags *pflag.FlagSet, name *string, of string) {
	flags.StringVar(name, "congestion", "auto",
		"congestion `CONTROL` of the connections to "+of+": auto, system, or a name of the kernel's, such as bbr")
	Suggest(flags, "congestion", "auto", "system", "bbr", "cubic")
	Note(flags, "congestion", "auto gives BBR to all connections of a host to which packets are lost although none "+
		"wait in a queue, over a way with a round trip of 20 ms or more, if the kernel allows it, and leaves the "+
		"others to the kernel, as system does. It takes Linux.")
}

// DialectFlag adds --dialect.
func DialectFlag(flags *pflag.FlagSet, dialect *string) {
	flags.Var((*Dialect)(dialect), "dialect",
		"Python release whose protocol the root speaks, 0.1, 0.2 or 0.3 (default our own, which 0.1 understands)")
	Suggest(flags, "dialect", "0.1", "0.2", "0.3")
	Note(flags, "dialect", "/py01, /py02 and /py03 speak that of each release.")
}

// KeepFlags add --data-dir, which is initial without the flag, and --max-versions.
func KeepFlags(flags *pflag.FlagSet, dir *string, initial string, versions *int) {
	flags.StringVar(dir, "data-dir", initial, "`DIRECTORY` of the versions")
	Note(flags, "data-dir", "The command makes a missing one.")
	flags.Var((*Count)(versions), "max-versions",
		"versions to keep from now on, up to 10000 (default as before, 15 at first)")
	Note(flags, "max-versions", "The number belongs to the data directory, so that later commands follow it.")
}

// StatusPageFlag adds --no-status-page.
func StatusPageFlag(flags *pflag.FlagSet, without *bool) {
	flags.BoolVar(without, "no-status-page", false, "serve no status page at / and /status.json")
}

// SwarmFlags add --swarm with a usage, and --swarm-allow for the nodes that of names.
func SwarmFlags(flags *pflag.FlagSet, o *shardcast.SwarmOptions, usage, of string) {
	flags.BoolVar(&o.Enabled, "swarm", false, usage)
	flags.Var((*Prefixes)(&o.Allow), "swarm-allow",
		"with --swarm: further networks of "+of+", such as 10.0.0.0/8 (default none)")
}
