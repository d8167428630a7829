// Command shardcast-origin cuts files into shards and serves them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
)

func main() {
	os.Exit(cli.Run(newCommand()))
}

// command is the state that the flags set.
type command struct {
	opts      shardcast.OriginOptions
	files     []string // to broadcast at the start
	accessLog func() (io.WriteCloser, error)
	signing   *cli.Signing // of the server
	deltas    *cli.Deltas  // likewise
	logger    func(io.Writer) *slog.Logger
	ready     *cli.Ready
}

func newCommand() *cobra.Command {
	c := new(command)
	root := &cobra.Command{
		Use:   "shardcast-origin",
		Short: "Cut files into shards and serve them",
		Long: `shardcast-origin serves the versions in a data directory over HTTP, to middles,
clients and other programs. SIGINT or SIGTERM ends it; it then finishes its
answers within 30 seconds. 'shardcast-origin broadcast FILE' publishes a version
in the same directory, with or without a server there; with --watch the server
publishes each file that appears complete in a directory, or each directory.`,
		Example: `  shardcast-origin --data-dir ./data --port 8000
  shardcast-origin --broadcast weights.safetensors
  shardcast-origin --watch ./checkpoints --watch-glob 'step_*/model.safetensors'
  shardcast-origin --watch ./steps --watch-depth tree --watch-marker stable
  shardcast-origin broadcast weights.safetensors --data-dir ./data`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.serve(cmd) },
	}
	shared := root.PersistentFlags() // with broadcast
	cli.KeepFlags(shared, &c.opts.DataDir, shardcast.DefaultOriginDir, &c.opts.MaxVersions)
	c.opts.ShardSize = shardcast.DefaultShardSize
	shared.Var((*cli.ShardSize)(&c.opts.ShardSize), "shard-size", "size of a shard in bytes, such as 64MiB, or auto")
	cli.Suggest(shared, "shard-size", "auto", "50MB", "64MiB")
	cli.Note(shared, "shard-size", "auto is a thousandth of the file, from 500 kB to 64 MB, which suits swarms.")
	cli.Under(shared, cli.Publish)
	c.logger = cli.LogFlag(shared)
	cli.Under(shared, cli.Show)

	flags := root.Flags()
	flags.StringArrayVar(&c.files, "broadcast", nil, "`FILE` to publish at the start; may be repeated")
	watch := &c.opts.Watch
	watch.Settle = shardcast.DefaultWatchSettle
	flags.StringVar(&watch.Dir, "watch", "", "`DIRECTORY` whose files to publish as they appear (default none)")
	cli.Note(flags, "watch",
		"The origin publishes each file once, in the order of their times, and later those that it missed.")
	flags.StringVar(&watch.Depth, "watch-depth", "file",
		"`DEPTH` of what is one version: file, or tree, a directory in DIRECTORY")
	cli.Suggest(flags, "watch-depth", "file", "tree")
	cli.Note(flags, "watch-depth",
		"With tree the origin publishes no single files, and a directory when all in it is complete.")
	flags.StringVar(&watch.Glob, "watch-glob", "",
		"`PATTERN` of files, or of directories and files, to publish (default *)")
	cli.Note(flags, "watch-glob", "'step_*/model.safetensors' is such a pattern, and for trees 'step_*'. "+
		"Hidden files and directories never match.")
	flags.StringVar(&watch.Marker, "watch-marker", "",
		"`NAME` of a file that marks those beside it as complete, or the tree it is in (default none)")
	cli.Note(flags, "watch-marker",
		"The origin publishes nothing without a marker; "+
			"a file or tree with a newer one need not wait for --watch-settle.")
	flags.Var((*cli.Seconds)(&watch.Settle), "watch-settle",
		"time without a change that completes a file or tree, in seconds")
	flags.Var((*cli.Labels)(&watch.Labels), "label",
		"`NAME=VALUE` that versions of --watch and --broadcast have; may be repeated")
	lineageFlags(flags, &watch.Run, &watch.Lineage)
	treeFlags(flags, &watch.Include, &watch.Exclude, &watch.FollowLinks)
	flags.StringVar(&watch.LinksBelow, "links-below", "",
		"`DIRECTORY` below which the links of watched trees have to lead, for --follow-links (default none)")
	c.deltas = cli.DeltaFlags(flags, false)
	cli.Under(flags, cli.Publish)
	c.accessLog = cli.AccessLogFlag(flags)
	cli.StatusPageFlag(flags, &c.opts.NoStatusPage)
	cli.Under(flags, cli.Show)
	cli.ListenFlags(flags, &c.opts.Host, &c.opts.Port)
	c.ready = cli.ReadyFlag(flags, "origin", "when the server listens")
	cli.TLSFlags(flags, &c.opts.TLS)
	cli.AccessFlags(flags, &c.opts.Access)
	cli.WebFlags(flags, &c.opts.Web)
	cli.LimitFlags(flags, &c.opts.Limits, "sending")
	cli.CongestionFlag(flags, &c.opts.Congestion, "readers")
	cli.Under(flags, cli.Network)
	cli.SwarmFlags(flags, &c.opts.Swarm, "list nodes to one another so that they swap shards", "nodes")
	cli.Under(flags, cli.Swarm)
	c.signing = cli.SignFlags(flags, &c.opts.Sign)
	cli.DialectFlag(flags, &c.opts.Dialect)
	cli.Under(flags, cli.Expert)

	cli.ServerTerms(root)
	root.AddCommand(c.broadcastCommand(), c.listCommand(), c.verifyCommand(), c.pinCommand(), c.unpinCommand(),
		c.republishCommand(), c.withdrawCommand(), c.newRunCommand(), c.signCommand(), c.keygenCommand(),
		c.configCommand(), c.exportCommand())
	return root
}

// serve publishes files and serves until the command's context ends.
func (c *command) serve(cmd *cobra.Command) (err error) {
	if err := errors.Join(
		cli.Requires(cmd.Flags(), "swarm", "swarm-allow"),
		cli.Requires(cmd.Flags(), "watch", "watch-depth", "watch-glob", "watch-marker"),
		cli.Requires(cmd.Flags(), "watch-depth", "include", "exclude", "follow-links", "links-below"),
		cli.BecomeServer(cmd.Name()),
		c.signing.Load(cmd),
	); err != nil {
		return err
	}
	opts := c.opts
	as := shardcast.BroadcastOptions{
		Labels: opts.Watch.Labels, Run: opts.Watch.Run, Lineage: opts.Watch.Lineage, DeltaBases: c.deltas.Bases(),
	}
	if opts.Watch.Dir == "" && c.files == nil && cli.Given(cmd.Flags(), "label") {
		return cli.Usage(errors.New("--label has no effect without --watch or --broadcast"))
	}
	for _, name := range []string{"delta", "delta-bases", "run", "lineage"} {
		if opts.Watch.Dir == "" && c.files == nil && cli.Given(cmd.Flags(), name) {
			return cli.Usage(fmt.Errorf("--%s has no effect without --watch or --broadcast", name))
		}
	}
	opts.Watch.DeltaBases = c.deltas.Bases()
	if opts.Watch.Dir == "" {
		opts.Watch = shardcast.WatchOptions{}
	}
	if flag := cmd.Flags().Lookup("watch-depth"); flag.Value.String() == flag.DefValue {
		// The environment may have them for broadcast.
		opts.Watch.Include, opts.Watch.Exclude, opts.Watch.FollowLinks, opts.Watch.LinksBelow = nil, nil, false, ""
	}
	if !opts.Swarm.Enabled {
		opts.Swarm.Allow = nil // which the environment may have
	}
	opts.Logger = c.logger(cli.Stderr(cmd))
	accessLog, err := c.accessLog()
	if err != nil {
		return err
	}
	if accessLog != nil {
		defer accessLog.Close()
		opts.AccessLog = accessLog
	}
	ready := make(chan struct{})
	opts.Ready = func() { close(ready) }
	o, err := shardcast.NewOrigin(opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	group, ctx := errgroup.WithContext(cmd.Context())
	group.Go(func() error { return cli.Serve(ctx, o, c.ready, opts.Logger) })
	group.Go(func() error {
		return c.publish(ctx, o, as, ready)
	})
	return group.Wait()
}

// publish publishes the files of --broadcast when the server is ready: one that may not use
// the directory must not publish there either.
func (c *command) publish(
	ctx context.Context, o *shardcast.Origin, as shardcast.BroadcastOptions, ready <-chan struct{},
) error {
	select {
	case <-ready:
	case <-ctx.Done():
	}
	for _, file := range c.files {
		_, err := o.BroadcastAs(ctx, file, as)
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}
