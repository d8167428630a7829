package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
)

// configCommand returns the command that shows and changes the settings of a data directory.
func (c *command) configCommand() *cobra.Command {
	var asJSON bool
	var maxChain int
	var deltas *cli.Deltas
	config := &cobra.Command{
		Use:   "config",
		Short: "Show or change the settings of a data directory",
		Long: `config shows the settings that belong to a data directory, of an origin or a middle,
and with --max-versions, --max-chain, --delta or --delta-bases changes them first. It
retires no version by itself: a server of the directory does so within a second or so,
and without one the next broadcast does, which alone can where versions are signed and
the server has no key.`,
		Example: `  shardcast-origin config --data-dir ./data
  shardcast-origin config --data-dir ./data --max-versions 100
  shardcast-origin config --data-dir ./data --delta on`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.config(cmd, maxChain, deltas, asJSON) },
	}
	config.Flags().Var((*cli.Count)(&maxChain), "max-chain",
		"most versions of a chain by the label after, up to 10000 (default as before, 64 at first)")
	cli.Note(config.Flags(), "max-chain", "Versions that a kept one needs are kept, too; a longer chain is refused. "+
		"Without it a middle keeps chains as long as those of its upstreams.")
	deltas = cli.DeltaFlags(config.Flags(), true)
	cli.Under(config.Flags(), cli.Publish)
	config.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cli.Under(config.Flags(), cli.Show)
	cli.DataTerms(config)
	return config
}

// config changes the settings that the flags name, and prints all.
func (c *command) config(cmd *cobra.Command, maxChain int, deltas *cli.Deltas, asJSON bool) error {
	var to shardcast.Settings
	if cli.Given(cmd.Flags(), "max-chain") {
		to.MaxChain = maxChain
	}
	if cli.Given(cmd.Flags(), "max-versions") {
		to.MaxVersions = c.opts.MaxVersions
	}
	if cli.Given(cmd.Flags(), "delta") || cli.Given(cmd.Flags(), "delta-bases") {
		to.DeltaBases = deltas.Bases()
	}
	if to.MaxVersions != 0 || to.MaxChain != 0 || to.DeltaBases != 0 {
		if _, err := shardcast.ChangeSettings(cmd.Context(), c.opts.DataDir, to); err != nil {
			return err
		}
	}
	settings, err := shardcast.ReadSettings(c.opts.DataDir)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(settings)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "max-versions: %d\nmax-chain: %d\ndelta-bases: %d\n",
		settings.MaxVersions, settings.MaxChain, settings.DeltaBases)
	if err == nil && settings.Run != "" {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "run: %s\n", settings.Run)
	}
	if err == nil && settings.Pinned != nil {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "pinned: %s\n", strings.Join(settings.Pinned, " "))
	}
	if err == nil && settings.Feed != "" {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "feed: %s\nepoch: %d\nexpires: %s\n", settings.Feed,
			settings.Epoch, settings.Expires)
	}
	return err
}
