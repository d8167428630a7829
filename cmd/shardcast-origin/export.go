package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
)

// exportCommand returns the command that makes a data directory of the Python package.
func (c *command) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "export DIRECTORY",
		Short: "Make a directory for the Python package 0.3",
		Long: `export makes DIRECTORY, which must be missing or empty, with the versions of the data
directory as the origin of the Python package 0.3 has them, and prints their number.
Shards are hard links where DIRECTORY is on the same file system, else copies. Stop
publishing before, and serve DIRECTORY by the Python package afterwards.`,
		Example: `  shardcast-origin export --data-dir ./data ./python_data`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return cli.Usage(fmt.Errorf("export takes the name of one DIRECTORY, and %d were given", len(args)))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			versions, err := shardcast.ExportPython(cmd.Context(), c.opts.DataDir, args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "versions: %d\n", versions)
			return err
		},
	}
}
