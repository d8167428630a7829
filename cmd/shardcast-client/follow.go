package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
	"github.com/shardcast/shardcast/internal/hook"
	"github.com/shardcast/shardcast/internal/progress"
)

// following is the state that the flags of follow set.
type following struct {
	download download
	opts     shardcast.FollowOptions
	exec     string
	once     bool
	confirm  bool
	stdin    io.Reader // has the lines of --confirm

	execTimeout time.Duration
}

// followDir is the directory, in the output directory, of what a follow has to remember.
const followDir = ".shardcast-follow"

func followCommand(logger func(io.Writer) *slog.Logger) *cobra.Command {
	f := &following{download: download{progress: progress.Auto, logger: logger}}
	follow := &cobra.Command{
		Use:   "follow",
		Short: "Keep the newest version in a directory, for ever",
		Long: `follow keeps the newest version in the output directory, for ever: it learns of
a new version at once, downloads and verifies it, renames its file or directory
into place, and prints the path. It waits for servers that are down and for room
on a full disk, and leaves out versions that no server can deliver. Started
again, also after a crash, it continues with the versions in the directory. It
removes older versions, of those files that it has made itself, and touches
nothing else. SIGINT or SIGTERM ends it with exit code 0, unless --once is
given.`,
		Example: `  shardcast-client follow --servers 192.168.1.100 --output-dir ./weights
  shardcast-client follow --servers 192.168.1.100 --link latest \
    --output-template 'step_{n}/model.safetensors'
  shardcast-client follow --servers 192.168.1.100 \
    --exec 'load-weights "$SHARDCAST_PATH"'
  shardcast-client follow --servers 192.168.1.100 --all --keep 5 --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.confirm {
				if err := cli.TakesStdin(cmd, "--confirm"); err != nil {
					return err
				}
			}
			return cobra.NoArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags, opts, d := follow.Flags(), &f.opts, &f.download
	cli.ServersFlag(flags, &d.opts.Servers, "servers", "servers")
	flags.StringVar(&opts.From, "from", "", "`VERSION` to begin with, such as v7 (default the newest)")
	cli.Note(flags, "from", "The listed versions from it on come first, in order.")
	flags.BoolVar(&opts.All, "all", false, "fetch every version, in order")
	flags.BoolVar(&opts.Lineage, "lineage", false,
		"with --all: fetch the versions of a run, each when what it needs is there")
	cli.Note(flags, "lineage", "It begins with the newest version that needs no other, stops at a gap, and goes "+
		"on with another run when that begins.")
	cli.Env(flags, "lineage", "SHARDCAST_FOLLOW_LINEAGE") // that of the origin is a format
	flags.BoolVar(&opts.SkipStale, "skip-stale", false, "break off a download when a newer version is listed")
	flags.BoolVar(&opts.NoRollback, "no-rollback", false, "keep a version that was withdrawn, and do not go back")
	cli.RestartFlag(flags, &opts.AcceptRestart)
	flags.BoolVar(&f.once, "once", false, "end after the next new version")
	flags.BoolVar(&d.opts.NoResume, "no-resume", false, "begin each download afresh, without an earlier partial file")
	d.addSeeds(flags)
	cli.Under(flags, cli.Fetch)
	d.addTrust(flags, ".shardcast-follow in --output-dir")
	flags.StringVar(&d.opts.OutputDir, "output-dir", shardcast.DefaultOutputDir, "`DIRECTORY` of the versions")
	cli.Note(flags, "output-dir", "The client makes a missing one.")
	flags.StringVar(&opts.Template, "output-template", shardcast.DefaultTemplate,
		"`PATH` of a version's file or directory in --output-dir")
	cli.Note(flags, "output-template",
		"{version} stands for v7, {n} for 7, {n:06} for 000007, {name} for the published name, {label.step} for the "+
			"value of that label, {label.step:06} for a value that is a number.")
	opts.Keep = shardcast.DefaultKeep
	flags.Var((*cli.Count)(&opts.Keep), "keep", "newest versions to keep")
	flags.StringVar(&opts.Marker, "marker", "",
		"`NAME` of an empty file to write beside each complete version (default none)")
	flags.StringVar(&opts.Link, "link", "", "`NAME` of a symbolic link to the newest version (default none)")
	cli.Note(flags, "link", "It stands in --output-dir, and changes atomically.")
	flags.StringVar(&f.exec, "exec", "", "`COMMAND` for sh -c to run for each version (default none)")
	cli.Note(flags, "exec",
		"Its environment has SHARDCAST_VERSION, SHARDCAST_PATH, SHARDCAST_FILE of a file, SHARDCAST_SHA256, and each "+
			"label as SHARDCAST_LABEL_NAME, and no setting of follow's own. One that fails runs once more.")
	flags.Var((*cli.Seconds)(&f.execTimeout), "exec-timeout",
		"longest time that the command of --exec may run, in seconds (default none)")
	cli.Note(flags, "exec-timeout", "All its processes then get SIGTERM, and 10 seconds later SIGKILL.")
	flags.BoolVar(&f.confirm, "confirm", false, "wait for a line on stdin after each version")
	cli.Env(flags, "confirm", "")
	cli.Note(flags, "confirm", "The version counts as delivered then, and the next one comes; after a crash before, "+
		"it comes again. A program that reads the paths writes the lines. The end of stdin ends follow like SIGTERM.")
	cli.Under(flags, cli.Use)
	d.addShared(flags)
	cli.FetchTerms(follow)
	cli.AddTerms(follow, cli.Environment,
		"SHARDCAST_VERSION, SHARDCAST_PATH, SHARDCAST_FILE, SHARDCAST_SHA256, SHARDCAST_LABEL_NAME",
		"follow sets them for the command of --exec.")
	cli.AddTerms(follow, cli.Files,
		"DIRECTORY/.shardcast-follow", "The record of delivered versions, and arriving ones.")
	return follow
}

func (f *following) run(cmd *cobra.Command) (err error) {
	cli.Endure()
	f.stdin = cmd.InOrStdin()
	err = errors.Join(
		cli.Requires(cmd.Flags(), "exec", "exec-timeout"),
		cli.Requires(cmd.Flags(), "all", "lineage"),
	)
	if err != nil {
		return err
	}
	trust := &f.download.opts.Trust
	if len(trust.Keys) > 0 && trust.StateDir == "" {
		trust.StateDir = filepath.Join(f.download.opts.OutputDir, followDir)
	}
	s, err := f.download.begin(cmd)
	if err != nil {
		return err
	}
	if f.exec != "" && len(trust.Keys) == 0 {
		s.logger.Warn("the command of --exec runs for whatever servers list",
			"hint", "with --key it runs for what the publisher has signed")
	}
	defer func() { err = errors.Join(err, s.client.Close()) }()
	hint := "run the same command again to go on"
	cli.Resume(cmd, hint)
	err = f.download.during(cmd.Context(), s, func(ctx context.Context) error { return f.keepNewest(ctx, s) })
	if err == nil && cmd.Context().Err() != nil {
		s.logger.Info("ended", "hint", hint)
	}
	return err
}

// keepNewest keeps the newest version, until ctx ends.
func (f *following) keepNewest(ctx context.Context, s *session) error {
	defer s.display.End()
	// A version counts as delivered unless ctx has ended.
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	confirmed := f.confirmations(fail)
	for got, err := range s.client.Follow(ctx, f.telling(ctx, fail, s)) {
		switch {
		case err != nil && got.Version.Name != "":
			s.display.Failed(err)
			level := slog.LevelError
			if errors.Is(err, shardcast.ErrNoVersion) || errors.Is(err, shardcast.ErrLabel) {
				level = slog.LevelWarn // retired, so a newer one follows, or of another kind
			}
			s.logger.Log(ctx, level, "version passed over", "version", got.Version.Name, "err", err)
			if err := f.tellPassedOver(ctx, s.out, got.Version, err); err != nil {
				fail(err)
				return err
			}
			continue
		case err != nil && ctx.Err() != nil && !f.once:
			return f.ended(ctx)
		case err != nil:
			return err
		}
		s.display.Done(got, s.logger.Enabled(ctx, slog.LevelInfo))
		if err := f.announce(ctx, s.out, got); err != nil {
			fail(err)
			return err
		}
		if f.exec != "" {
			f.execute(ctx, got, s.logger.With("version", got.Version.Name))
		}
		select {
		case <-confirmed:
		case <-ctx.Done():
		}
		if f.once {
			return context.Cause(ctx) // a signal may have ended the command
		}
	}
	return nil
}

// telling returns the options of a follow that prints events, or calls fail if it cannot.
func (f *following) telling(ctx context.Context, fail context.CancelCauseFunc, s *session) shardcast.FollowOptions {
	opts := f.opts
	opts.PassedOver = func(v shardcast.Version, why error) {
		s.logger.Debug("version left out", "version", v.Name, "err", why)
		if err := f.tellPassedOver(ctx, s.out, v, why); err != nil {
			fail(err)
		}
	}
	opts.OnGap = func(g shardcast.Gap) {
		f.tell(ctx, fail, func() error { return progress.WriteGap(s.out, g) })
	}
	opts.OnRun = func(run string) {
		f.tell(ctx, fail, func() error { return progress.WriteRun(s.out, run) })
	}
	return opts
}

// mostLines are as many lines of --confirm as are kept for versions to come.
const mostLines = 1024

// confirmations returns a channel that has a value for each line on stdin, and calls end at the
// end of stdin, however many lines no version has had; without --confirm it is closed.
func (f *following) confirmations(end context.CancelCauseFunc) <-chan struct{} {
	confirmed := make(chan struct{}, mostLines)
	if !f.confirm {
		close(confirmed)
		return confirmed
	}
	go func() {
		for lines := bufio.NewReader(f.stdin); ; {
			_, err := lines.ReadSlice('\n')
			if errors.Is(err, bufio.ErrBufferFull) {
				continue // the line goes on
			}
			if err != nil {
				end(errors.New("stdin has ended"))
				return
			}
			select {
			case confirmed <- struct{}{}:
			default: // more than there will be versions
			}
			if f.once {
				return // the end of stdin comes too late
			}
		}
	}()
	return confirmed
}

// ended returns why following has ended with ctx: nil after a signal, and otherwise the cause.
func (f *following) ended(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, errUnprinted) {
		return cause
	}
	return nil
}

// errUnprinted means that the reader of the lines is gone.
var errUnprinted = errors.New("its line was not printed")

// announce prints the path of a version, or with --json all about it.
func (f *following) announce(ctx context.Context, out io.Writer, got shardcast.Result) error {
	err := f.patiently(ctx, func() error {
		if f.download.json {
			return progress.WriteDelivered(out, got)
		}
		return f.download.print(out, got)
	})
	if errors.Is(err, errUnprinted) {
		err = fmt.Errorf("%s is at %s, and comes again after a restart, because %w", got.Version.Name, got.Path, err)
	}
	return err
}

// tellPassedOver prints with --json why a version was left out.
func (f *following) tellPassedOver(ctx context.Context, out io.Writer, v shardcast.Version, why error) error {
	if !f.download.json {
		return nil
	}
	err := f.patiently(ctx, func() error { return progress.WritePassedOver(out, v, why) })
	if errors.Is(err, errUnprinted) {
		err = fmt.Errorf("%s was passed over, and %w", v.Name, err)
	}
	return err
}

// tell prints an event by do with --json, or has following fail.
func (f *following) tell(ctx context.Context, fail context.CancelCauseFunc, do func() error) {
	if !f.download.json {
		return
	}
	if err := f.patiently(ctx, do); err != nil {
		fail(err)
	}
}

// patiently prints by do, and waits for the reader until ctx ends.
func (f *following) patiently(ctx context.Context, do func() error) error {
	printed := make(chan error, 1)
	go func() { printed <- do() }()
	select {
	case err := <-printed:
		if err != nil {
			return fmt.Errorf("%w: %w", errUnprinted, err)
		}
		return nil
	case <-ctx.Done():
		if f.once {
			return context.Cause(ctx)
		}
		return nil // and the loop ends
	}
}

// execute runs the command for a version, and once more if it fails.
func (f *following) execute(ctx context.Context, got shardcast.Result, logger *slog.Logger) {
	for attempt := 1; attempt <= 2; attempt++ {
		start := time.Now()
		err := f.command(ctx, got, logger)
		if err == nil {
			logger.Info("command done", "dur", time.Since(start))
			return
		}
		if ctx.Err() != nil {
			return // the next start runs it again for this version
		}
		logger.Error("command failed", "attempt", attempt, "err", err)
	}
}

func (f *following) command(ctx context.Context, got shardcast.Result, logger *slog.Logger) error {
	path, err := filepath.Abs(got.Path)
	if err != nil {
		return err
	}
	command := hook.Hook{
		Command: f.exec, Timeout: f.execTimeout, Logger: logger,
		Lock: filepath.Join(f.download.opts.OutputDir, followDir, "hook.lock"),
	}
	if err := command.Run(ctx, environment(got.Version, path)...); err != nil {
		return fmt.Errorf("%s: %w", f.exec, err)
	}
	return nil
}

// environment is that of a command for a version at a path.
func environment(v shardcast.Version, path string) []string {
	all := []string{"SHARDCAST_VERSION=" + v.Name, "SHARDCAST_PATH=" + path, "SHARDCAST_SHA256=" + v.Digest}
	if !v.Directory {
		all = append(all, "SHARDCAST_FILE="+path)
	}
	for _, name := range slices.Sorted(maps.Keys(v.Labels)) {
		all = append(all, "SHARDCAST_LABEL_"+strings.Map(variable, name)+"="+v.Labels[name])
	}
	return all
}

// variable is the character of an environment variable for one of a label's name.
func variable(r rune) rune {
	switch {
	case 'a' <= r && r <= 'z':
		return r - 'a' + 'A'
	case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return r
	}
	return '_'
}
