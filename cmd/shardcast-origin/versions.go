package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
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
pinned, the first digits of its digest, its name and its labels.`,
		Example: `  shardcast-origin list --data-dir ./data
  shardcast-origin list --data-dir ./data --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			held, err := shardcast.HeldVersions(c.opts.DataDir)
			if err != nil {
				return err
			}
			if !asJSON {
				return progress.WriteHeldVersions(cmd.OutOrStdout(), held)
			}
			for _, v := range held {
				if err := progress.WriteHeldVersion(cmd.OutOrStdout(), v); err != nil {
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
	var all bool
	verify := &cobra.Command{
		Use:   "verify [VERSION]",
		Short: "Read a version again and check every byte",
		Long: `verify reads all shards of VERSION, or of the newest version without it, and compares
them with the manifest, the list of files and the digest of the whole. It prints a
line for each version that is right, and one for each file that is wrong or
missing; then its exit code is 4. It changes nothing, and may run beside a server.`,
		Example: `  shardcast-origin verify v3 --data-dir ./data
  shardcast-origin verify --all --data-dir ./data`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || all && len(args) > 0 {
				return fmt.Errorf("verify takes one VERSION, such as v3, or --all, and %d were given", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return c.verify(cmd, args, all) },
	}
	verify.Flags().BoolVar(&all, "all", false, "verify all versions")
	cli.Under(verify.Flags(), cli.Publish)
	cli.DataTerms(verify)
	return verify
}

// verify verifies the named version, or all, or the newest.
func (c *command) verify(cmd *cobra.Command, names []string, all bool) error {
	if len(names) == 0 {
		held, err := c.heldNames()
		if err != nil {
			return err
		}
		if names = held; !all {
			names = names[len(names)-1:]
		}
	}
	var bad []string
	for _, name := range names {
		v, wrong, err := shardcast.VerifyHeld(cmd.Context(), c.opts.DataDir, name)
		if err != nil {
			if all && errors.Is(err, shardcast.ErrNoVersion) {
				continue // retired meanwhile
			}
			return fmt.Errorf("verify %s: %w", name, err)
		}
		if err := printVerified(cmd, v, wrong); err != nil {
			return err
		}
		if len(wrong) > 0 {
			bad = append(bad, name)
		}
	}
	if bad != nil {
		return fmt.Errorf("%w: %s in %s; what is wrong is above", shardcast.ErrIntegrity,
			strings.Join(bad, ", "), c.opts.DataDir)
	}
	return nil
}

// heldNames returns the names of the versions in the data directory, one or more.
func (c *command) heldNames() ([]string, error) {
	held, err := shardcast.HeldVersions(c.opts.DataDir)
	if err == nil && len(held) == 0 {
		err = fmt.Errorf("%w in %s", shardcast.ErrNoVersion, c.opts.DataDir)
	}
	var names []string
	for _, v := range held {
		names = append(names, v.Version.Name)
	}
	return names, err
}

// printVerified prints what is wrong of v, or that it is right.
func printVerified(cmd *cobra.Command, v shardcast.Version, wrong []error) error {
	for _, err := range wrong {
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%v\n", err); err != nil {
			return err
		}
	}
	if len(wrong) > 0 {
		return nil
	}
	text := v.Name + " is right"
	if v.Size >= 0 {
		text += fmt.Sprintf(": %s, %d shards", humanize.Bytes(uint64(v.Size)), v.Shards)
	}
	if v.Directory {
		text += fmt.Sprintf(", %d files", v.FileCount)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
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
directory retires it within a second or so, and without one the next broadcast does.`,
		Example: `  shardcast-origin unpin v3 --data-dir ./data`,
	}, func(ctx context.Context, _ *cobra.Command, version string) error {
		return shardcast.Unpin(ctx, c.opts.DataDir, version)
	})
}

// republishCommand returns the command that publishes a version once more.
func (c *command) republishCommand() *cobra.Command {
	return c.versionCommand(&cobra.Command{
		Use:   "republish VERSION",
		Short: "Publish a version once more, under the next number",
		Long: `republish gives VERSION the next number as well, and prints it on stdout: as the newest
version it goes to all that follow. Its manifest and its bytes are the same, so it
takes no room where the file system has hard links, and no time.`,
		Example: `  shardcast-origin republish v5 --data-dir ./data`,
	}, func(ctx context.Context, cmd *cobra.Command, version string) error {
		return c.changing(cmd, func(o *shardcast.Origin) error {
			again, err := o.Republish(ctx, version)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), again)
			return err
		})
	})
}

// withdrawCommand returns the command that declares a version bad.
func (c *command) withdrawCommand() *cobra.Command {
	return c.versionCommand(&cobra.Command{
		Use:   "withdraw VERSION",
		Short: "Declare a version bad and take it away everywhere",
		Long: `withdraw takes VERSION off the offer and off the disk, here and at all middles, and
ends its downloads. Followers go back to the version that they had before. Its number
is not used again.`,
		Example: `  shardcast-origin withdraw v7 --data-dir ./data`,
	}, func(ctx context.Context, cmd *cobra.Command, version string) error {
		return c.changing(cmd, func(o *shardcast.Origin) error { return o.Withdraw(ctx, version) })
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

// changing calls change with an origin for the data directory, which must exist.
func (c *command) changing(cmd *cobra.Command, change func(*shardcast.Origin) error) (err error) {
	if _, err := shardcast.ReadSettings(c.opts.DataDir); err != nil {
		return err
	}
	o, err := shardcast.NewOrigin(shardcast.OriginOptions{
		DataDir: c.opts.DataDir, MaxVersions: c.opts.MaxVersions, Logger: c.logger(cli.Stderr(cmd)),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	return change(o)
}
