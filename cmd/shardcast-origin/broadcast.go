package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
	"github.com/shardcast/shardcast/internal/progress"
)

// broadcastCommand returns the command that publishes one version.
func (c *command) broadcastCommand() *cobra.Command {
	b := &broadcasting{progress: progress.Auto}
	opts := &b.opts
	broadcast := &cobra.Command{
		Use:   "broadcast PATH",
		Short: "Publish a file or directory as a new version and print its name",
		Long: `broadcast cuts the file or directory PATH into the data directory as its next
version, prints the name of the version on stdout, such as v3, and ends. Servers
of the directory serve it at once. Any number of broadcasts may run at the same
time; each waits for its turn. With - as PATH broadcast reads a file from stdin.
It shows its progress on stderr.`,
		Example: `  shardcast-origin broadcast weights.safetensors --data-dir ./data
  shardcast-origin broadcast step_1200 --label step=1200 --exclude optim.pt
  shardcast-origin broadcast step_1200 --sign-key publisher.key --feed llama
  shardcast-origin broadcast step_1201 --delta
  shardcast-origin broadcast weight_v000007 --run b --number 7 --after 6
  pg_dump app | shardcast-origin broadcast - --name app.sql`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("broadcast takes one PATH, and %d were given", len(args))
			}
			if args[0] == "-" {
				return cli.TakesStdin(cmd, "broadcast -")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			cli.LimitMemory()
			if opts.Number == 0 && cli.Given(cmd.Flags(), "number") {
				return cli.Usage(errors.New("--number 0: want a number from 1; 0 is what a run begins with"))
			}
			if args[0] != "-" && cli.Given(cmd.Flags(), "size") {
				return cli.Usage(errors.New("--size has no effect without - as PATH"))
			}
			opts.Input, opts.DeltaBases = cmd.InOrStdin(), b.deltas.Bases()
			if err := b.signing.Load(cmd); err != nil {
				return err
			}
			if b.omsKey != "" {
				var err error
				if opts.OMSKey, err = shardcast.ReadOMSKey(b.omsKey); err != nil {
					return fmt.Errorf("--oms-key: %w", err)
				}
			}
			return c.broadcast(cmd, args[0], b)
		},
	}
	flags := broadcast.Flags()
	flags.StringVar(&opts.Name, "name", "", "`NAME` of the version (default that of PATH)")
	flags.Var((*cli.Labels)(&opts.Labels), "label", "`NAME=VALUE` that the version has; may be repeated")
	lineageFlags(flags, &opts.Run, &opts.Lineage)
	flags.Var((*cli.Number)(&opts.Number), "number", "number of the version in its run, from 1 (default none)")
	cli.Note(flags, "number", "It is the label number. The same number again is the version that is there, if its "+
		"content is equal, and is refused otherwise.")
	flags.Var((*cli.Number)(&opts.After), "after",
		"number of the version of the run that this one needs (default none)")
	cli.Note(flags, "after", "It is the label after. 0 is none. The version has to be there, and is kept as long as "+
		"this one.")
	for _, name := range []string{"number", "after"} {
		cli.Env(flags, name, "") // they are of one version
	}
	treeFlags(flags, &opts.Include, &opts.Exclude, &opts.FollowLinks)
	flags.Var((*cli.Size)(&opts.InputSize), "size", "`SIZE` of stdin for -, in bytes (default any)")
	cli.Env(flags, "size", "")
	cli.Note(flags, "size", "After fewer or more bytes nothing is published. Without it, what a program that was "+
		"killed has written so far is published as if it were all.")
	b.deltas = cli.DeltaFlags(flags, false)
	cli.Under(flags, cli.Publish)
	flags.BoolVar(&b.json, "json", false, "print the version as one JSON object")
	cli.ProgressFlag(flags, &b.progress)
	cli.Under(flags, cli.Show)
	b.signing = cli.SignFlags(flags, &b.sign)
	flags.StringVar(&b.omsKey, "oms-key", "",
		"`FILE` of the P-256 key that signs the files of a directory in its model.sig (default none)")
	cli.Note(flags, "oms-key", "The signature is one of OpenSSF Model Signing 1.0, so that model_signing verify key "+
		"checks the files that were delivered. They are read once more for it. "+
		"'openssl ecparam -name prime256v1 -genkey -noout' makes a key.")
	cli.Under(flags, cli.Sign)
	cli.DataTerms(broadcast)
	return broadcast
}

// broadcasting is the state that the flags of broadcast set.
type broadcasting struct {
	opts     shardcast.BroadcastOptions
	sign     shardcast.SignOptions
	signing  *cli.Signing
	omsKey   string
	deltas   *cli.Deltas
	json     bool
	progress progress.Mode
}

// treeFlags add --include, --exclude and --follow-links, which choose the files of a directory.
func treeFlags(flags *pflag.FlagSet, include, exclude *[]string, followLinks *bool) {
	flags.StringArrayVar(include, "include", nil,
		"`PATTERN` of files of a directory to publish; may be repeated (default all)")
	flags.StringArrayVar(exclude, "exclude", nil,
		"`PATTERN` of files and directories to leave out; may be repeated (default none)")
	for _, name := range []string{"include", "exclude"} {
		cli.Note(flags, name,
			"Patterns are as in .gitignore: *.pt at any depth, /logs/ and a/**/b from the directory on.")
	}
	flags.BoolVar(followLinks, "follow-links", false,
		"publish the files that links in the directory lead to; a link is an error otherwise")
}

// lineageFlags add --run and --lineage, which give versions a place in a run.
func lineageFlags(flags *pflag.FlagSet, run, from *string) {
	flags.StringVar(run, "run", "",
		"`NAME` of the run that the version is of (default that of new-run, for a version with a number)")
	cli.Note(flags, "run", "It is the label run.")
	flags.StringVar(from, "lineage", "",
		"`FORMAT` by which a directory states its number and the one that it needs, hf-delta (default none)")
	cli.Suggest(flags, "lineage", "hf-delta")
	cli.Note(flags, "lineage", "hf-delta reads version and base_version in the metadata of its "+
		"model.safetensors.index.json, base_version where there is a delta_encoding.")
}

// broadcast publishes path and prints the name of its version.
func (c *command) broadcast(cmd *cobra.Command, path string, b *broadcasting) (err error) {
	stderr := cli.Stderr(cmd)
	mode := b.progress
	if cli.LogsJSON(cmd) {
		mode = mode.BesideJSON()
	}
	display := progress.New(mode, os.Stderr, stderr)
	logger := c.logger(stderr)
	o, err := shardcast.NewOrigin(shardcast.OriginOptions{
		DataDir: c.opts.DataDir, ShardSize: c.opts.ShardSize, MaxVersions: c.opts.MaxVersions, Logger: logger,
		Sign: b.sign,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	cli.Resume(cmd, "nothing was published; run the same command again")
	b.opts.Progress = display.Update()
	got, err := o.BroadcastAs(cmd.Context(), path, b.opts)
	if err != nil {
		display.Failed(err)
		return err
	}
	cli.Resume(cmd, "")
	display.Done(got, logger.Enabled(cmd.Context(), slog.LevelInfo))
	if b.json {
		err = c.printBroadcast(cmd.OutOrStdout(), got, b.signing.Key())
	} else {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), got.Version.Name)
	}
	if err != nil {
		return fmt.Errorf("%s is published as %s, and the name was not printed: %w", path, got.Version.Name, err)
	}
	return nil
}

// printBroadcast prints the broadcast as JSON, if it is signed with the release.
func (c *command) printBroadcast(out io.Writer, got shardcast.Result, signed bool) error {
	if !signed {
		return progress.WriteBroadcast(out, got, nil)
	}
	release, err := shardcast.HeldRelease(c.opts.DataDir)
	if err != nil {
		return err
	}
	return progress.WriteBroadcast(out, got, &release)
}
