package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
	"github.com/shardcast/shardcast/internal/progress"
)

// listCommand returns the command that shows the versions of a data directory.
func (c *command) listCommand() *cobra.Command {
	var asJSON bool
	list := &cobra.Command{
		Use:   "list",
		Short: "List the versions of a data directory",
		Long: `list shows the versions on offer in a data directory, of an origin or a middle: when
each was published, its size, the number of files of a directory, whether it is
pinned, the first digits of its digest, its name and its labels. Where versions are
signed, the feed, the age and the end of the signature stand above, whose key 'verify'
checks.`,
		Example: `  shardcast-origin list --data-dir ./data
  shardcast-origin list --data-dir ./data --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			held, err := shardcast.HeldVersions(c.opts.DataDir)
			if err != nil {
				return err
			}
			release, err := shardcast.HeldRelease(c.opts.DataDir)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if !asJSON {
				return progress.WriteHeldVersions(cmd.OutOrStdout(), held, release)
			}
			for _, v := range held {
				if err := progress.WriteHeldVersion(cmd.OutOrStdout(), v, release); err != nil {
					return err
				}
			}
			return nil
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per version, with the whole digest")
	cli.Under(list.Flags(), cli.Show)
	cli.DataTerms(list)
	return list
}

// verifyCommand returns the command that reads versions of a data directory again.
func (c *command) verifyCommand() *cobra.Command {
	v := new(verifying)
	verify := &cobra.Command{
		Use:   "verify [VERSION]",
		Short: "Read a version again and check every byte",
		Long: `verify reads all shards of VERSION, or of the newest version without it, and compares
them with the manifest, the list of files and the digest of the whole. It prints a
line for each version that is right, and one for each file that is wrong or
missing; then its exit code is 4. With --all it compares the signed list, too. It
changes nothing, and may run beside a server.`,
		Example: `  shardcast-origin verify v3 --data-dir ./data
  shardcast-origin verify --all --data-dir ./data --key publisher.pub`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case v.all && len(args) > 0:
				return fmt.Errorf("verify takes --all or a VERSION, and both were given: %q", args[0])
			case len(args) > 1:
				return fmt.Errorf("verify takes one VERSION, such as v3, and %d were given", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return c.verify(cmd, args, v) },
	}
	verify.Flags().BoolVar(&v.all, "all", false, "verify all versions")
	verify.Flags().StringArrayVar(&v.keys, "key", nil,
		"with --all: public `KEY`, or file of one, that has to have signed; may be repeated (default any)")
	cli.Under(verify.Flags(), cli.Publish)
	cli.DataTerms(verify)
	return verify
}

// verifying is the state that the flags of verify set.
type verifying struct {
	all  bool
	keys []string
}

// verify verifies the named version, or all with the release, or the newest.
func (c *command) verify(cmd *cobra.Command, names []string, v *verifying) error {
	if err := cli.Requires(cmd.Flags(), "all", "key"); err != nil {
		return err
	}
	var release shardcast.Release
	var wrongRelease []error
	if v.all {
		var err error
		if release, wrongRelease, err = shardcast.VerifyHeldRelease(c.opts.DataDir, v.keys...); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		held, err := c.heldNames(release.Feed != "" || wrongRelease != nil)
		if err != nil {
			return err
		}
		if names = held; !v.all {
			names = names[len(names)-1:]
		}
	}
	bad, err := c.verifyVersions(cmd, names, v.all)
	if err != nil {
		return err
	}
	if err := printVerified(cmd, wrongRelease, rightRelease(release)); err != nil {
		return err
	}
	if len(wrongRelease) > 0 {
		bad = append(bad, "the signed list")
	}
	if bad != nil {
		return fmt.Errorf("%w: %s in %s; what is wrong is above", shardcast.ErrIntegrity,
			strings.Join(bad, ", "), c.opts.DataDir)
	}
	return nil
}

// verifyVersions verifies versions, and returns the names of those that are wrong. Of all, some may
// go meanwhile.
func (c *command) verifyVersions(cmd *cobra.Command, names []string, all bool) (bad []string, err error) {
	for _, name := range names {
		of, wrong, err := shardcast.VerifyHeld(cmd.Context(), c.opts.DataDir, name)
		if err != nil {
			if all && errors.Is(err, shardcast.ErrNoVersion) {
				continue
			}
			return nil, fmt.Errorf("verify %s: %w", name, err)
		}
		if err := printVerified(cmd, wrong, right(of)); err != nil {
			return nil, err
		}
		if len(wrong) > 0 {
			bad = append(bad, name)
		}
	}
	return bad, nil
}

// heldNames returns the names of the versions in the data directory, one or more unless it may be
// empty.
func (c *command) heldNames(mayBeEmpty bool) ([]string, error) {
	held, err := shardcast.HeldVersions(c.opts.DataDir)
	if err == nil && len(held) == 0 && !mayBeEmpty {
		err = fmt.Errorf("%w in %s", shardcast.ErrNoVersion, c.opts.DataDir)
	}
	var names []string
	for _, v := range held {
		names = append(names, v.Version.Name)
	}
	return names, err
}

// printVerified prints what is wrong, or that all is right, unless that is empty.
func printVerified(cmd *cobra.Command, wrong []error, right string) error {
	for _, err := range wrong {
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%v\n", err); err != nil {
			return err
		}
	}
	if len(wrong) > 0 || right == "" {
		return nil
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), right)
	return err
}

// right says that a version is right.
func right(v shardcast.Version) string {
	text := v.Name + " is right"
	if v.Size >= 0 {
		text += ": " + humanize.Bytes(uint64(v.Size)) + ", " + english.Plural(v.Shards, "shard", "")
	}
	if v.Directory {
		text += ", " + english.Plural(v.FileCount, "file", "")
	}
	return text
}

// rightRelease says that the signed list is right, and nothing where there is none.
func rightRelease(r shardcast.Release) string {
	if r.Feed == "" {
		return ""
	}
	return fmt.Sprintf("the signed list is right: feed %s, epoch %d, %s, key %s", r.Feed, r.Epoch,
		english.Plural(len(r.Versions), "version", ""), r.KeyID)
}

// pinCommand returns the command that keeps a version.
func (c *command) pinCommand() *cobra.Command {
	return c.versionCommand(&cobra.Command{
		Use:   "pin VERSION",
		Short: "Keep a version beside the newest ones",
		Long: `pin has the data directory keep VERSION beside the newest versions, whose number
stays as it is, until unpin. list shows which versions are pinned.`,
		Example: `  shardcast-origin pin v3 --data-dir ./data`,
	}, func(ctx context.Context, _ *cobra.Command, version string) error {
		return shardcast.Pin(ctx, c.opts.DataDir, version)
	})
}

// unpinCommand returns the command that ends a pin.
func (c *command) unpinCommand() *cobra.Command {
	return c.versionCommand(&cobra.Command{
		Use:   "unpin VERSION",
		Short: "Keep a version no longer than others",
		Long: `unpin ends what pin has begun. If VERSION is not among those to keep, a server of the
directory retires it within a second or so, and without one the next broadcast does,
which alone can where versions are signed and the server has no key.`,
		Example: `  shardcast-origin unpin v3 --data-dir ./data`,
	}, func(ctx context.Context, _ *cobra.Command, version string) error {
		return shardcast.Unpin(ctx, c.opts.DataDir, version)
	})
}

// republishCommand returns the command that publishes a version once more.
func (c *command) republishCommand() *cobra.Command {
	return c.signedCommand(&cobra.Command{
		Use:   "republish VERSION",
		Short: "Publish a version once more, under the next number",
		Long: `republish gives VERSION the next number as well, and prints it on stdout: as the newest
version it goes to all that follow. Its manifest and its bytes are the same, so it
takes no room where the file system has hard links, and no time.`,
		Example: `  shardcast-origin republish v5 --data-dir ./data`,
	}, func(cmd *cobra.Command, o *shardcast.Origin, version string) error {
		again, err := o.Republish(cmd.Context(), version)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), again)
		return err
	})
}

// withdrawCommand returns the command that declares a version bad.
func (c *command) withdrawCommand() *cobra.Command {
	return c.signedCommand(&cobra.Command{
		Use:   "withdraw VERSION",
		Short: "Declare a version bad and take it away everywhere",
		Long: `withdraw takes VERSION off the offer and off the disk, here and at all middles, and
ends its downloads. Followers go back to the version that they had before. Its number
is not used again.`,
		Example: `  shardcast-origin withdraw v7 --data-dir ./data`,
	}, func(cmd *cobra.Command, o *shardcast.Origin, version string) error {
		return o.Withdraw(cmd.Context(), version)
	})
}

// newRunCommand returns the command that begins a run.
func (c *command) newRunCommand() *cobra.Command {
	var opts shardcast.SignOptions
	newRun := &cobra.Command{
		Use:   "new-run NAME",
		Short: "Begin a run, and retire the versions of other runs",
		Long: `new-run makes NAME the run of the data directory: 'broadcast --number' without --run
uses it, and a version of another run is refused. It retires the versions of other
runs, but for pinned ones, of which it warns; versions without the labels run and
number are of no run, and stay. Version numbers go on. Followers with --lineage remove
what they have of older runs when the first version of the new one is listed. Where the
run has begun already, new-run changes nothing.`,
		Example: `  shardcast-origin new-run llama-2 --data-dir ./data
  shardcast-origin broadcast weight_v000001 --data-dir ./data --number 1`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("new-run takes the NAME of a run, and %d were given", len(args))
			}
			return nil
		},
	}
	signing := cli.SignFlags(newRun.Flags(), &opts)
	newRun.RunE = func(cmd *cobra.Command, args []string) error {
		if err := signing.Load(cmd); err != nil {
			return err
		}
		return c.change(cmd, opts, func(o *shardcast.Origin) error { return o.NewRun(cmd.Context(), args[0]) })
	}
	cli.DataTerms(newRun)
	return newRun
}

// signedCommand completes a command that changes one version with a key by change.
func (c *command) signedCommand(
	cmd *cobra.Command, change func(cmd *cobra.Command, o *shardcast.Origin, version string) error,
) *cobra.Command {
	var opts shardcast.SignOptions
	signing := cli.SignFlags(cmd.Flags(), &opts)
	return c.versionCommand(cmd, func(_ context.Context, cmd *cobra.Command, version string) error {
		if err := signing.Load(cmd); err != nil {
			return err
		}
		return c.changing(cmd, opts, func(o *shardcast.Origin) error { return change(cmd, o, version) })
	})
}

// versionCommand completes a command that changes one version by run.
func (c *command) versionCommand(
	cmd *cobra.Command, run func(ctx context.Context, cmd *cobra.Command, version string) error,
) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s takes one VERSION, such as v3, and %d were given", cmd.Name(), len(args))
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), cmd, args[0]) }
	cli.DataTerms(cmd)
	return cmd
}

// changing calls change with an origin for the data directory, which must exist, that signs by sign.
func (c *command) changing(
	cmd *cobra.Command, sign shardcast.SignOptions, change func(*shardcast.Origin) error,
) error {
	if _, err := shardcast.ReadSettings(c.opts.DataDir); err != nil {
		return err
	}
	return c.change(cmd, sign, change)
}

// change is [command.changing] for a data directory that it makes if it is missing.
func (c *command) change(
	cmd *cobra.Command, sign shardcast.SignOptions, change func(*shardcast.Origin) error,
) (err error) {
	o, err := shardcast.NewOrigin(shardcast.OriginOptions{
		DataDir: c.opts.DataDir, MaxVersions: c.opts.MaxVersions, Logger: c.logger(cli.Stderr(cmd)),
		Sign: sign,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	return change(o)
}
