// Command shardcast-middle follows upstreams and serves their versions.
package main

import (
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
)

func main() {
	os.Exit(cli.Run(newCommand()))
}

// command is the state that the flags set.
type command struct {
	opts      shardcast.MiddleOptions
	accessLog func() (io.WriteCloser, error)
	logger    func(io.Writer) *slog.Logger
	ready     *cli.Ready
}

func newCommand() *cobra.Command {
	c := new(command)
	root := &cobra.Command{
		Use:   "shardcast-middle",
		Short: "Fetch the versions of upstreams and serve them again",
		Long: `shardcast-middle follows its upstreams, origins or other middles: it fetches
every version that they list, verifies each shard and each file, serves it over
HTTP like an origin, also while it arrives, and retires the versions that they
have retired. One upstream that is up is enough. SIGINT or SIGTERM ends it;
started again, it continues with its partial files.`,
		Example: `  shardcast-middle --upstream 192.168.1.100,192.168.1.101 --port 8001
  IP_ADDR_LIST="192.168.1.100 192.168.1.101" shardcast-middle`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.serve(cmd) },
	}
	flags, opts := root.Flags(), &c.opts
	cli.ServersFlag(flags, &opts.Upstreams, "upstream", "upstreams")
	cli.QuorumFlag(flags, &opts.Quorum, "upstreams")
	cli.RestartFlag(flags, &opts.AcceptRestart)
	opts.CheckInterval = shardcast.DefaultCheckInterval
	flags.Var((*cli.Seconds)(&opts.CheckInterval), "check-interval",
		"time between polls of upstreams that push nothing, in seconds")
	cli.Note(flags, "check-interval", "It is also the wait after a failed fetch.")
	cli.KeepFlags(flags, &opts.DataDir, shardcast.DefaultMiddleDir, &opts.MaxVersions)
	cli.Under(flags, cli.Follow)
	cli.TrustFlags(flags, &opts.Trust, ".shardcast in --data-dir", &opts.Fetch.VerifyStream)
	c.accessLog = cli.AccessLogFlag(flags)
	cli.StatusPageFlag(flags, &opts.NoStatusPage)
	c.logger = cli.LogFlag(flags)
	cli.Under(flags, cli.Show)
	cli.ListenFlags(flags, &opts.Host, &opts.Port)
	c.ready = cli.ReadyFlag(flags, "middle", "when the server listens")
	cli.TLSFlags(flags, &opts.TLS)
	cli.AccessFlags(flags, &opts.Access)
	cli.WebFlags(flags, &opts.Web)
	cli.TransferFlags(flags, &opts.Fetch)
	cli.LimitFlags(flags, &opts.Limits, "sending, and for fetching")
	cli.CongestionFlag(flags, &opts.Congestion, "readers")
	cli.Under(flags, cli.Network)
	cli.SwarmFlags(flags, &opts.Swarm, "swap shards with peers, and list nodes to one another", "nodes and peers")
	flags.Var((*cli.Port)(&opts.Swarm.Port), "swarm-port",
		"with --swarm: TCP port to serve peers of https:// upstreams on (0: any free port)")
	cli.Note(flags, "swarm-port", "They speak TLS, know the middle by its key, and show a ticket of the upstream.")
	cli.Under(flags, cli.Swarm)
	cli.RetryFlags(flags, &opts.Fetch)
	cli.DialectFlag(flags, &opts.Dialect)
	cli.Under(flags, cli.Expert)
	cli.ServerTerms(root)
	return root
}

// serve follows the upstreams and serves until the command's context ends.
func (c *command) serve(cmd *cobra.Command) (err error) {
	if err := errors.Join(
		cli.Requires(cmd.Flags(), "swarm", "swarm-allow", "swarm-port"), cli.BecomeServer(cmd.Name()),
	); err != nil {
		return err
	}
	opts := c.opts
	if opts.UpstreamPort, err = cli.ServerPort(opts.Upstreams, "upstream"); err != nil {
		return err
	}
	opts.Fetch.LimitRate = opts.Limits.LimitRate
	if !opts.Swarm.Enabled {
		opts.Swarm.Allow = nil // which the environment may have
	}
	opts.Logger = c.logger(cli.Stderr(cmd))
	cli.WarnOfPasswords(cmd.Flags(), "upstream", opts.Upstreams, opts.Logger)
	accessLog, err := c.accessLog()
	if err != nil {
		return err
	}
	if accessLog != nil {
		defer accessLog.Close()
		opts.AccessLog = accessLog
	}
	m, err := shardcast.NewMiddle(opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	return cli.Serve(cmd.Context(), m, c.ready, opts.Logger)
}
