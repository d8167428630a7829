// Command shardcast-middle follows upstreams and serves what they offer.
package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
)

func main() {
	os.Exit(cli.Run(newCommand()))
}

// settings are what the flags say.
type settings struct {
	dataDir   string
	interval  cli.Seconds
	server    cli.ServerFlags
	swarm     cli.SwarmFlags
	fetch     cli.FetchFlags
	accessLog func() (io.Writer, error)
	logger    func(io.Writer) *slog.Logger
}

func newCommand() *cobra.Command {
	s := &settings{interval: cli.Seconds(shardcast.DefaultCheckInterval)}
	root := &cobra.Command{
		Use:   "shardcast-middle",
		Short: "Fetch what upstreams offer and serve it again",
		Long: `shardcast-middle follows its upstreams, origins or other middles: it fetches every
version that they list, verifies each shard and each file, serves it over HTTP
like an origin, already while it arrives, and retires what they have retired. Any
of the upstreams that is up is enough. It goes on until it is told to end by SIGINT
or SIGTERM; what it had fetched of a version by then is used when it is started
again.`,
		Example: `  shardcast-middle --upstream 192.168.1.100,192.168.1.101 --data-dir ./middle_data --port 8001
  IP_ADDR_LIST="192.168.1.100 192.168.1.101" shardcast-middle`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.serve(cmd.Context()) },
	}
	flags := root.Flags()
	s.fetch.Add(flags, "upstream", "servers to follow")
	flags.StringVar(&s.dataDir, "data-dir", shardcast.DefaultMiddleDir, "`DIRECTORY` to keep versions in; made if it is missing")
	s.server.Listen(flags)
	flags.Var(&s.interval, "check-interval", "seconds between two looks at upstreams that do not tell what is new, or a duration such as 1m30s")
	s.server.Keep(flags)
	s.server.Limit(flags, "of shards to send, and as many to fetch")
	s.swarm.Add(flags, "swap shards with others that follow the same upstreams, where these have --swarm, too; and "+cli.TellPeers,
		cli.PeersAt+"; and where others may be besides those that the upstreams could have themselves")
	s.accessLog = cli.AccessLogFlag(flags)
	s.logger = cli.LogFlag(root.PersistentFlags())
	return root
}

// serve follows the upstreams and serves until ctx ends.
func (s *settings) serve(ctx context.Context) (err error) {
	if err := cli.BecomeServer("shardcast-middle"); err != nil {
		return err
	}
	upstreams, port, fetching, err := s.fetch.Options()
	if err != nil {
		return err
	}
	logger := s.logger(os.Stderr)
	accessLog, err := s.accessLog()
	if err != nil {
		return err
	}
	limits := s.server.Limits()
	fetching.LimitRate = limits.LimitRate
	m, err := shardcast.NewMiddle(shardcast.MiddleOptions{
		Upstreams:     upstreams,
		UpstreamPort:  port,
		DataDir:       s.dataDir,
		Host:          s.server.Host,
		Port:          s.server.Port.Option(),
		CheckInterval: time.Duration(s.interval),
		MaxVersions:   int(s.server.MaxVersions),
		Dialect:       string(s.server.Dialect),
		FetchOptions:  fetching,
		ServerLimits:  limits,
		SwarmOptions:  s.swarm.Options(),
		AccessLog:     accessLog,
		NoStatusPage:  s.server.NoStatusPage,
		Logger:        logger,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	return cli.Serve(ctx, m, logger)
}
