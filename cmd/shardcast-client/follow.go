package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
	"github.com/shardcast/shardcast/internal/progress"
)

// following is what the flags of follow say.
type following struct {
	settings

	follow shardcast.FollowOptions
	keep   cli.Count
	exec   string
	once   bool
}

func followCommand(logger func(io.Writer) *slog.Logger) *cobra.Command {
	f := &following{settings: settings{progress: progress.Auto, logger: logger}, keep: shardcast.DefaultKeep}
	follow := &cobra.Command{
		Use:   "follow",
		Short: "Keep the newest version in a directory, for ever",
		Long: `follow keeps the newest version in the output directory, for ever: it is told when
there is one, downloads and verifies it, renames it into place, and prints its path.
It waits for servers that are gone and for a disk that is full, and passes over what
is not to be had. When it is started again, also after a crash, it finds what is there.
It removes older versions, of those files that it has made itself, and touches nothing
else. A signal ends it with exit code 0, unless --once is given.`,
		Example: `  shardcast-client follow --servers 192.168.1.100,192.168.1.101 --output-dir ./weights
  shardcast-client follow --servers 192.168.1.100 --output-template 'step_{n}/model.safetensors' --marker stable --link latest
  shardcast-client follow --servers 192.168.1.100 --exec 'load-weights "$SHARDCAST_FILE"'
  shardcast-client follow --servers 192.168.1.100 --from v7 --all --keep 5 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := follow.Flags()
	f.fetch.Add(flags, "servers", "servers to fetch from")
	f.fetch.Limit(flags)
	f.swarm.add(flags)
	flags.StringVar(&f.outputDir, "output-dir", shardcast.DefaultOutputDir, "`DIRECTORY` to keep versions in; made if it is missing")
	flags.StringVar(&f.follow.Template, "output-template", shardcast.DefaultTemplate,
		"`PATH` of a version's file in the output directory: {version} is v7, {n} is 7, one of which it must have, and {name} is what the file was called where it was published")
	flags.Var(&f.keep, "keep", "versions to keep, the newest; older ones that follow has made are removed")
	flags.StringVar(&f.follow.From, "from", "", "`VERSION` to begin with, v1, v2 and so on: those on offer from it on come first, in order (default: only the newest)")
	flags.BoolVar(&f.follow.All, "all", false, "fetch every version, in order, not only the newest")
	flags.BoolVar(&f.follow.SkipStale, "skip-stale", false, "break off a download when a newer version is on offer")
	flags.StringVar(&f.follow.Marker, "marker", "", "`NAME` of an empty file to write beside each version when it is complete (default none)")
	flags.StringVar(&f.follow.Link, "link", "", "`NAME` of a symbolic link in the output directory to the newest version's file, switched at once (default none)")
	flags.StringVar(&f.exec, "exec", "", "`COMMAND` for sh -c to run for each version, with SHARDCAST_VERSION, SHARDCAST_FILE and SHARDCAST_SHA256 set; run once more if it fails (default none)")
	flags.BoolVar(&f.once, "once", false, "end after the next new version")
	flags.BoolVar(&f.noResume, "no-resume", false, "begin each download afresh, without what an earlier one has left")
	flags.BoolVar(&f.json, "json", false, "print results as JSON, one object a line")
	addProgress(flags, &f.progress)
	return follow
}

func (f *following) run(cmd *cobra.Command) (err error) {
	c, display, logger, err := f.client()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return f.swarm.during(cmd.Context(), c, logger, func(ctx context.Context) error {
		return f.keepNewest(ctx, cmd.OutOrStdout(), c, display, logger)
	})
}

// keepNewest keeps the newest version, until ctx ends.
func (f *following) keepNewest(ctx context.Context, out io.Writer, c *shardcast.Client, display *progress.Display, logger *slog.Logger) error {
	f.follow.Keep = int(f.keep)
	for got, err := range c.Follow(ctx, f.follow) {
		switch {
		case err != nil && got.Name != "":
			display.Failed(err)
			level := slog.LevelError
			if errors.Is(err, shardcast.ErrNoVersion) {
				level = slog.LevelWarn // there is a newer one, or will be
			}
			logger.Log(ctx, level, "version passed over", "version", got.Name, "err", err)
			continue
		case err != nil && ctx.Err() != nil && !f.once:
			return nil
		case err != nil:
			return err
		}
		display.Done(got, logger.Enabled(ctx, slog.LevelInfo))
		if err := f.print(out, got); err != nil {
			return err
		}
		if f.exec != "" {
			f.execute(ctx, got, logger.With("version", got.Name))
		}
		if f.once {
			return context.Cause(ctx) // the command may have been interrupted
		}
	}
	return nil
}

// execute runs the command for what has come, and once more if it fails.
func (f *following) execute(ctx context.Context, got shardcast.Result, logger *slog.Logger) {
	for attempt := 1; attempt <= 2; attempt++ {
		start := time.Now()
		err := f.command(ctx, got)
		if err == nil {
			logger.Info("command done", "dur", time.Since(start))
			return
		}
		if ctx.Err() != nil {
			return // it runs again for this version at the next start
		}
		logger.Error("command failed", "attempt", attempt, "err", err)
	}
}

// endPatience is how long a command has to end when we are told to.
const endPatience = 10 * time.Second

func (f *following) command(ctx context.Context, got shardcast.Result) error {
	path, err := filepath.Abs(got.Path)
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, "sh", "-c", f.exec)
	command.Env = append(os.Environ(), "SHARDCAST_VERSION="+got.Name, "SHARDCAST_FILE="+path, "SHARDCAST_SHA256="+got.Digest)
	command.Stdout, command.Stderr = os.Stderr, os.Stderr // ours is for results only
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = endPatience
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s: %w", f.exec, err)
	}
	return nil
}
