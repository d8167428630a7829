// Command shardcast-origin cuts files into shards and serves them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
)

func main() {
	os.Exit(cli.Run(newCommand()))
}

// settings are what the flags say.
type settings struct {
	dataDir   string
	shardSize cli.ShardSize
	watch     shardcast.WatchOptions
	settle    cli.Seconds
	server    cli.ServerFlags
	swarm     cli.SwarmFlags
	accessLog func() (io.Writer, error)
	logger    func(io.Writer) *slog.Logger
}

// origin opens the data directory, to watch what watch says. ready is called when it is
// being served, and accessLog, unless it is nil, receives its answers.
func (s *settings) origin(watch shardcast.WatchOptions, accessLog io.Writer, logger *slog.Logger, ready func()) (*shardcast.Origin, error) {
	return shardcast.NewOrigin(shardcast.OriginOptions{
		DataDir:      s.dataDir,
		Host:         s.server.Host,
		Port:         s.server.Port.Option(),
		ShardSize:    int64(s.shardSize),
		MaxVersions:  int(s.server.MaxVersions),
		Dialect:      string(s.server.Dialect),
		Watch:        watch,
		ServerLimits: s.server.Limits(),
		SwarmOptions: s.swarm.Options(),
		Ready:        ready,
		AccessLog:    accessLog,
		NoStatusPage: s.server.NoStatusPage,
		Logger:       logger,
	})
}

func newCommand() *cobra.Command {
	s := &settings{shardSize: shardcast.DefaultShardSize, settle: cli.Seconds(shardcast.DefaultWatchSettle)}
	var files []string
	root := &cobra.Command{
		Use:   "shardcast-origin",
		Short: "Cut files into shards and serve them",
		Long: `shardcast-origin serves the versions in a data directory over HTTP, to middles
and clients, and to whatever else fetches files. It goes on until it is told to
end by SIGINT or SIGTERM, and then finishes what it is sending, for 30 seconds at
most. 'shardcast-origin broadcast FILE' publishes into the same directory, with
or without a server on it; with --watch the origin does so itself, with each file
that appears complete in a directory.`,
		Example: `  shardcast-origin --data-dir ./data --port 8000
  shardcast-origin --broadcast weights.safetensors
  shardcast-origin --watch ./checkpoints --watch-glob 'step_*/model.safetensors'
  shardcast-origin broadcast weights.safetensors --data-dir ./data`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.serve(cmd.Context(), files) },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&s.dataDir, "data-dir", shardcast.DefaultOriginDir, "`DIRECTORY` to keep versions in; made if it is missing")
	flags.Var(&s.shardSize, "shard-size", "size of a shard: 50MB, 64MiB or a number of bytes; auto is a thousandth of the file, from 8MB to 64MB, for swarms")
	cli.Env(flags, "shard-size", "SHARDCAST_SHARD_SIZE")
	s.server.Keep(flags)
	s.logger = cli.LogFlag(flags)
	s.server.Listen(root.Flags())
	s.server.Limit(root.Flags(), "of shards to send")
	s.swarm.Add(root.Flags(), cli.TellPeers, cli.PeersAt)
	s.accessLog = cli.AccessLogFlag(root.Flags())
	root.Flags().StringArrayVar(&files, "broadcast", nil, "`FILE` to publish as a new version at the start; may be given again")
	root.Flags().StringVar(&s.watch.Dir, "watch", "", "`DIRECTORY` whose files are published as they appear, each once and in the order of their times, also those that came while no origin ran (default none)")
	root.Flags().StringVar(&s.watch.Glob, "watch-glob", "", "`PATTERN` of the names of files to publish, or of a directory and a name, such as 'step_*/model.safetensors'; hidden ones never are (default *)")
	root.Flags().StringVar(&s.watch.Marker, "watch-marker", "", "`NAME` of a file that must be beside one before that is published; it need not settle then (default none)")
	root.Flags().Var(&s.settle, "watch-settle", "seconds that a file must not have changed before it is published")
	root.AddCommand(&cobra.Command{
		Use:   "broadcast FILE",
		Short: "Publish one file as a new version and print which",
		Long: `broadcast cuts FILE into the data directory as its next version, prints just the
version on stdout, such as v3, and ends. Servers of the directory serve it at
once. Any number of broadcasts may run at the same time; each waits for its turn.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("broadcast takes the name of one FILE, and %d were given", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return s.broadcast(cmd, args[0]) },
	})
	return root
}

// serve publishes files and serves until ctx ends.
func (s *settings) serve(ctx context.Context, files []string) (err error) {
	if err := cli.BecomeServer("shardcast-origin"); err != nil {
		return err
	}
	logger := s.logger(os.Stderr)
	accessLog, err := s.accessLog()
	if err != nil {
		return err
	}
	ready := make(chan struct{})
	watch := s.watch
	if watch.Dir != "" {
		watch.Settle = time.Duration(s.settle)
	}
	o, err := s.origin(watch, accessLog, logger, func() { close(ready) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return cli.Serve(ctx, o, logger) })
	group.Go(func() error {
		// A server that is refused the directory must not publish there either.
		select {
		case <-ready:
		case <-ctx.Done():
		}
		for _, file := range files {
			if _, err := o.Broadcast(ctx, file); err != nil && ctx.Err() == nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

// broadcast publishes file and prints its version.
func (s *settings) broadcast(cmd *cobra.Command, file string) (err error) {
	o, err := s.origin(shardcast.WatchOptions{}, nil, s.logger(os.Stderr), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	version, err := o.Broadcast(cmd.Context(), file)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), version)
	return err
}
