// Command shardcast-client lists versions, downloads them, and follows new ones.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
	"github.com/shardcast/shardcast/internal/progress"
)

func main() {
	os.Exit(cli.Run(newCommand()))
}

// settings are what the flags say.
type settings struct {
	list, json, noResume           bool
	version, outputFile, outputDir string
	wait                           cli.Patience
	swarm                          swarmFlags
	progress                       progress.Mode
	fetch                          cli.FetchFlags
	logger                         func(io.Writer) *slog.Logger
}

func newCommand() *cobra.Command {
	s := &settings{progress: progress.Auto}
	root := &cobra.Command{
		Use:   "shardcast-client",
		Short: "List versions and download them",
		Long: `shardcast-client lists the versions that servers offer, or downloads one of them:
its shards concurrently from the servers that prove fastest, verified one by one
and as a whole. Any of the servers that is up is enough. The file appears under
its name only when all of it is right and on the disk, and its path is then
printed on stdout; when anything fails, what stood there before is untouched, and
what has come is kept for the next download of it to the same file to go on with.
With --wait a version may be asked for before there is one. How it goes is shown
on stderr.`,
		Example: `  shardcast-client --servers 192.168.1.100,192.168.1.101 --list
  shardcast-client --servers 192.168.1.100 --version v1 --output-file ./file.bin
  shardcast-client --servers 192.168.1.100 --version v2 --wait 10m
  shardcast-client --servers 192.168.1.100 --version v1 --progress none --json
  shardcast-client follow --servers 192.168.1.100 --output-dir ./weights
  IP_ADDR_LIST="192.168.1.100 192.168.1.101" shardcast-client --version latest`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd) },
	}
	flags := root.Flags()
	s.fetch.Add(flags, "servers", "servers to fetch from")
	s.fetch.Limit(flags)
	s.swarm.add(flags)
	s.swarm.addSeed(flags)
	flags.BoolVar(&s.list, "list", false, "print the versions on offer, as a table or with --json")
	flags.StringVar(&s.version, "version", "", "`VERSION` to download: v1, v2 and so on, or latest")
	flags.Var(&s.wait, "wait", "seconds to wait with --version for it, or any for latest, to be offered, and for a server that answers (default 0: fail at once)")
	cli.Env(flags, "wait", "SHARDCAST_WAIT")
	flags.StringVar(&s.outputFile, "output-file", "", "`FILE` to download to (default download_VERSION.bin in the output directory)")
	flags.StringVar(&s.outputDir, "output-dir", shardcast.DefaultOutputDir, "`DIRECTORY` to download to; made if it is missing")
	flags.BoolVar(&s.noResume, "no-resume", false, "begin afresh, without what an earlier download to the same file has left")
	flags.BoolVar(&s.json, "json", false, "print results as JSON, one object a line")
	addProgress(flags, &s.progress)
	s.logger = cli.LogFlag(root.PersistentFlags())
	root.AddCommand(followCommand(s.logger))
	return root
}

func addProgress(flags *pflag.FlagSet, mode *progress.Mode) {
	flags.Var(mode, "progress", "how to show a download on stderr: bar, plain (log lines), json (an object a line) or none; auto is bar on a terminal, else plain")
}

func (s *settings) run(cmd *cobra.Command) (err error) {
	if s.list == (s.version != "") {
		return cli.Usage(errors.New("give either --list or --version"))
	}
	if s.list && s.swarm.Options().Swarm {
		return cli.Usage(errors.New("--swarm is for downloads, not for --list"))
	}
	c, display, logger, err := s.client()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if s.list {
		return s.printList(cmd.Context(), c, cmd.OutOrStdout())
	}
	return s.swarm.during(cmd.Context(), c, logger, func(ctx context.Context) error {
		got, err := c.Download(ctx, s.version, s.outputFile)
		if err != nil {
			display.Failed(err)
			return err
		}
		display.Done(got, logger.Enabled(ctx, slog.LevelInfo))
		if err := s.print(cmd.OutOrStdout(), got); err != nil {
			return err
		}
		return s.swarm.seed(ctx, c, logger)
	})
}

// client returns a client as the flags say, what shows its downloads, and its log.
func (s *settings) client() (*shardcast.Client, *progress.Display, *slog.Logger, error) {
	servers, port, fetching, err := s.fetch.Options()
	if err == nil {
		err = s.swarm.check()
	}
	if err != nil {
		return nil, nil, nil, err
	}
	display := progress.New(s.progress, os.Stderr)
	logger := s.logger(display)
	c, err := shardcast.NewClient(shardcast.ClientOptions{
		Servers:      servers,
		ServerPort:   port,
		OutputDir:    s.outputDir,
		FetchOptions: fetching,
		Wait:         time.Duration(s.wait),
		NoResume:     s.noResume,
		SwarmOptions: s.swarm.Options(),
		Progress:     display.Update(),
		Logger:       logger,
	})
	return c, display, logger, err
}

// print prints what has come: its path, if it is not to be JSON.
func (s *settings) print(out io.Writer, got shardcast.Result) error {
	if s.json {
		return progress.WriteResult(out, got)
	}
	_, err := fmt.Fprintln(out, got.Path)
	return err
}

// printList prints the versions on offer, as a table if not as JSON.
func (s *settings) printList(ctx context.Context, c *shardcast.Client, out io.Writer) error {
	versions, err := c.List(ctx)
	if err != nil {
		return err
	}
	if s.json {
		for _, v := range versions {
			if err := progress.WriteVersion(out, v); err != nil {
				return err
			}
		}
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "VERSION\tFILE\tSIZE\tSHARDS\tDATE\tDIGEST")
	for _, v := range versions {
		fmt.Fprintln(table, strings.Join(row(v), "\t"))
	}
	return table.Flush()
}

// row is what stands in the table for v; what is not known is left blank.
func row(v shardcast.Version) []string {
	var size, shards, date string
	if v.Size >= 0 {
		size = strings.ReplaceAll(humanize.Bytes(uint64(v.Size)), " ", "")
	}
	if v.Shards >= 0 {
		shards = strconv.Itoa(v.Shards)
	}
	if !v.Date.IsZero() {
		date = v.Date.UTC().Format(time.RFC3339)
	}
	return []string{v.Name, printable(v.File), size, shards, date, v.Digest}
}

// printable is a name from the network as it can stand in a table: quoted if it
// has anything in it that a terminal or a reader of columns would take amiss.
func printable(name string) string {
	if quoted := strconv.Quote(name); strings.Contains(name, " ") || quoted != `"`+name+`"` {
		return quoted
	}
	return name
}
