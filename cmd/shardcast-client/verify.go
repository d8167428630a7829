package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
)

// verification is the state that the flags of verify set.
type verification struct {
	opts    shardcast.ClientOptions
	version string
	logger  func(io.Writer) *slog.Logger
}

// verifyCommand returns the command that compares a file or directory with a version.
func verifyCommand(logger func(io.Writer) *slog.Logger) *cobra.Command {
	v := &verification{logger: logger}
	verify := &cobra.Command{
		Use:   "verify PATH",
		Short: "Compare a file or directory with a version",
		Long: `verify asks the servers for the digests of VERSION, and compares the file or
directory PATH with them. It prints a line for each file that differs, is missing
or is not of the version; then its exit code is 4. It fetches no shards, and
writes nothing.`,
		Example: `  shardcast-client verify ./weights --servers 192.168.1.100 --version v3`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("verify takes one PATH, and %d were given", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return v.run(cmd, args[0]) },
	}
	flags := verify.Flags()
	cli.ServersFlag(flags, &v.opts.Servers, "servers", "servers")
	flags.StringVar(&v.version, "version", "", "`VERSION` to compare with: v1, v2 and so on, latest, or labels")
	cli.Suggest(flags, "version", shardcast.Latest)
	cli.Env(flags, "version", "")
	cli.Under(flags, cli.Fetch)
	cli.TrustFlags(flags, &v.opts.Trust, userState, nil)
	cli.QuorumFlag(flags, &v.opts.Quorum, "servers")
	cli.Under(flags, cli.Network)
	cli.FetchTerms(verify)
	return verify
}

// run compares path with the version.
func (v *verification) run(cmd *cobra.Command, path string) (err error) {
	if v.version == "" {
		return cli.Usage(errors.New("give the version to compare with: --version v3"))
	}
	opts, out := v.opts, cmd.OutOrStdout()
	if opts.ServerPort, err = cli.ServerPort(opts.Servers, "servers"); err != nil {
		return err
	}
	opts.Logger = v.logger(cli.Stderr(cmd))
	cli.WarnOfPasswords(cmd.Flags(), "servers", opts.Servers, opts.Logger)
	c, err := shardcast.NewClient(opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	version, differences, err := c.Verify(cmd.Context(), v.version, path)
	if err != nil {
		return err
	}
	for _, found := range differences {
		if _, err := fmt.Fprintf(out, "%s: %s\n", found.Path, found.What); err != nil {
			return err
		}
	}
	if len(differences) > 0 {
		return fmt.Errorf("%w: %s is not %s: differences: %d",
			shardcast.ErrIntegrity, path, version.Name, len(differences))
	}
	_, err = fmt.Fprintf(out, "%s is %s\n", path, version.Name)
	return err
}
