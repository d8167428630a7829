package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
)

// configCommand returns the command that shows and changes the settings of a data directory.
func (c *command) configCommand() *cobra.Command {
	var asJSON bool
	config := &cobra.Command{
		Use:   "config",
		Short: "Show or change the settings of a data directory",
		Long: `config shows the settings that belong to a data directory, of an origin or a middle,
and with --max-versions changes them first. It retires no version by itself: a server of
the directory does so within a second or so, and without one the next broadcast does.`,
		Example: `  shardcast-origin config --data-dir ./data
  shardcast-origin config --data-dir ./data --max-versions 100`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.config(cmd, asJSON) },
	}
	config.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cli.Under(config.Flags(), cli.Show)
	cli.DataTerms(config)
	return config
}

// config changes the settings that the flags name, and prints all.
func (c *command) config(cmd *cobra.Command, asJSON bool) error {
	if cli.Given(cmd.Flags(), "max-versions") {
		to := shardcast.Settings{MaxVersions: c.opts.MaxVersions}
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
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "max-versions: %d\n", settings.MaxVersions)
	return err
}
