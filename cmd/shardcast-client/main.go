// Command shardcast-client lists versions, downloads them, and follows new ones.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
	"github.com/shardcast/shardcast/internal/progress"
)

func main() {
	cli.LimitMemory()
	os.Exit(cli.Run(newCommand()))
}

// download is the state that the flags of a download set. Those of follow set the same, and
// more.
type download struct {
	opts                shardcast.ClientOptions
	list, files, json   bool
	version, outputFile string
	progress            progress.Mode
	peers               peering
	logger              func(io.Writer) *slog.Logger
}

func newCommand() *cobra.Command {
	d := &download{progress: progress.Auto}
	root := &cobra.Command{
		Use:   "shardcast-client",
		Short: "List versions and download them",
		Long: `shardcast-client lists the versions of its servers, or downloads one of them:
its shards concurrently from the fastest servers, verified one by one and as a
whole. One server that is up is enough. The file appears under its name when all
of it is right and on the disk; the client then prints its path on stdout. A
file that is complete already is not fetched again. After a failure an earlier
file of that name is untouched, and the partial file stays for the next download
to the same name to continue. With --wait the client waits for a version that is
not listed yet. It shows its progress on stderr.`,
		Example: `  shardcast-client --servers 192.168.1.100,192.168.1.101 --list
  shardcast-client --servers 192.168.1.100 --version v1 --output-file ./file.bin
  shardcast-client --servers 192.168.1.100 --version v2 --wait 10m
  shardcast-client --servers 192.168.1.100 --version step=1200
  shardcast-client --servers 192.168.1.100 --version v1 --progress none --json
  shardcast-client follow --servers 192.168.1.100 --output-dir ./weights
  IP_ADDR_LIST="192.168.1.100 192.168.1.101" shardcast-client --version latest`,
		Args: d.takePatterns,
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd) },
	}
	flags := root.Flags()
	cli.ServersFlag(flags, &d.opts.Servers, "servers", "servers")
	flags.BoolVar(&d.list, "list", false, "list the versions, or with --version that one")
	flags.StringVar(&d.version, "version", "",
		"`VERSION` to download: v1, v2 and so on, latest, or labels such as step=1200")
	cli.Note(flags, "version", "With --list nothing is downloaded. "+
		"run=a,step=7 is the newest version that counts and has both labels.")
	cli.Suggest(flags, "version", shardcast.Latest)
	for _, action := range []string{"list", "version"} {
		cli.Env(flags, action, "")
	}
	flags.Var((*cli.Patience)(&d.opts.Wait), "wait",
		"time to wait for the version and for a server, in seconds (default 0)")
	cli.Note(flags, "wait",
		"For latest any version will do. With 0 a download of a version that is not listed fails at once.")
	flags.StringVar(&d.outputFile, "output-file", "",
		"`PATH` of the file or directory (default download_VERSION.bin in --output-dir)")
	cli.Note(flags, "output-file",
		"The default of a directory is its published name in --output-dir. "+
			"If PATH is a symbolic link, its target is replaced. "+
			"- is stdout, which gets each shard in order once it is verified; exit code 4 says that the whole differs.")
	flags.StringVar(&d.opts.OutputDir, "output-dir", shardcast.DefaultOutputDir, "`DIRECTORY` of downloads")
	cli.Note(flags, "output-dir", "The client makes a missing one.")
	flags.BoolVar(&d.opts.Replace, "replace", false,
		"replace a directory of that name, whatever is in it, by a version that is a directory")
	cli.Note(flags, "replace", "Otherwise only an empty one is replaced, and one that a download has put there.")
	flags.StringArrayVar(&d.opts.Files, "files", nil,
		"`PATTERN` of the files to fetch of a directory; may be repeated. With --list and no PATTERN: list them "+
			"(default all)")
	flags.Lookup("files").NoOptDefVal = noPattern
	cli.Env(flags, "files", "")
	cli.Note(flags, "files", "Patterns are as of broadcast --include. Only the shards with these files are fetched; "+
		"the digests that most servers state of them are verified, and not that of the whole.")
	flags.BoolVar(&d.opts.NoResume, "no-resume", false, "begin afresh, without an earlier file or partial file")
	d.addSeeds(flags)
	cli.Under(flags, cli.Fetch)
	d.addTrust(flags, userState)
	d.addShared(flags)
	d.peers.addSeed(flags)
	cli.Under(flags, cli.Swarm)
	d.logger = cli.LogFlag(root.PersistentFlags())
	cli.Under(root.PersistentFlags(), cli.Show)
	cli.FetchTerms(root)
	cli.AddTerms(root, cli.Files, ".FILE.shardcast-part", "The partial file of a download to FILE, beside it.")
	root.AddCommand(followCommand(d.logger), verifyCommand(d.logger))
	return root
}

// userState is the default of --state-dir in words.
const userState = "~/.local/state/shardcast"

// addTrust adds the flags of the publisher's key.
func (d *download) addTrust(flags *pflag.FlagSet, state string) {
	cli.TrustFlags(flags, &d.opts.Trust, state, &d.opts.Fetch.VerifyStream)
}

// addSeeds adds --seed.
func (d *download) addSeeds(flags *pflag.FlagSet) {
	flags.StringArrayVar(&d.opts.Seeds, "seed", nil,
		"`PATH` of a file or directory whose bytes need not be fetched; may be repeated")
	cli.Note(flags, "seed", "What of it the version has, by digest, is copied and verified. Where it is the base of a "+
		"delta of the version, the delta is fetched. Links in it are left out.")
}

// addShared adds the flags that a download and follow have.
func (d *download) addShared(flags *pflag.FlagSet) {
	flags.BoolVar(&d.json, "json", false, "print results as JSON, one object per line")
	cli.ProgressFlag(flags, &d.progress)
	cli.Under(flags, cli.Show)
	cli.QuorumFlag(flags, &d.opts.Quorum, "servers")
	cli.TransferFlags(flags, &d.opts.Fetch)
	cli.RateFlag(flags, &d.opts.Fetch.LimitRate, "fetching, and for sending to peers")
	cli.Under(flags, cli.Network)
	d.peers.add(flags, &d.opts)
	cli.Under(flags, cli.Swarm)
	cli.RetryFlags(flags, &d.opts.Fetch)
	cli.Under(flags, cli.Expert)
}

// noPattern stands for the value of --files without one. It is no pattern.
const noPattern = "/"

// takePatterns gives each --files without a value the next argument, so that the value may
// follow it as that of other flags, although --list needs none. Further ones are an error.
func (d *download) takePatterns(cmd *cobra.Command, args []string) error {
	for i, pattern := range d.opts.Files {
		switch {
		case pattern != noPattern || d.list:
		case len(args) == 0:
			return cli.Usage(errors.New("--files wants a PATTERN without --list"))
		default:
			d.opts.Files[i], args = args[0], args[1:]
		}
	}
	return cobra.NoArgs(cmd, args)
}

// check returns an error, as of [cli.Usage], if flags do not fit together.
func (d *download) check(cmd *cobra.Command) error {
	var why string
	switch flags := cmd.Flags(); {
	case !d.list && d.version == "":
		why = "give --list, --version or both"
	case d.list && cli.Given(flags, "swarm"):
		why = "--swarm has no effect with --list"
	case d.version != shardcast.Latest && cli.Given(flags, "quorum"):
		why = "--quorum has no effect without --version latest"
	case d.outputFile == stdout && d.json:
		why = "--json has no place with --output-file -, which writes the version to stdout"
	case !d.list && len(d.opts.Files) > 0 && (d.outputFile == stdout || d.opts.Swarm.Enabled):
		why = "--files has no place with --output-file - and --swarm: they take all files"
	default:
		return nil
	}
	return cli.Usage(errors.New(why))
}

func (d *download) run(cmd *cobra.Command) (err error) {
	if err := d.check(cmd); err != nil {
		return err
	}
	d.files = d.list && len(d.opts.Files) > 0
	if !d.list {
		// A download does not end with the reader of its log, or of its output.
		signal.Ignore(syscall.SIGPIPE)
	}
	s, err := d.begin(cmd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.client.Close()) }()
	if d.list {
		return d.printList(cmd.Context(), s.client, s.out)
	}
	return d.during(cmd.Context(), s, func(ctx context.Context) error {
		got, err := d.fetch(ctx, s)
		if err != nil {
			s.display.Failed(err)
			if errors.Is(err, shardcast.ErrPartial) {
				cli.Resume(cmd, d.hint())
			}
			return err
		}
		s.display.Done(got, s.logger.Enabled(ctx, slog.LevelInfo))
		if d.outputFile != stdout {
			if err := d.print(s.out, got); err != nil {
				return err
			}
		}
		cli.Resume(cmd, "the download was complete")
		return d.peers.seed(ctx, s)
	})
}

// hint says how to go on with the partial file.
func (d *download) hint() string {
	if d.opts.NoResume {
		return "run the command without --no-resume to go on with the partial file"
	}
	return "run the same command again to go on with the partial file"
}

// stdout is the --output-file that stands for it.
const stdout = "-"

// fetch downloads the version to its place.
func (d *download) fetch(ctx context.Context, s *session) (shardcast.Result, error) {
	if d.outputFile == stdout {
		return s.client.DownloadTo(ctx, d.version, s.out)
	}
	return s.client.Download(ctx, d.version, d.outputFile)
}

// session is a client with its output.
type session struct {
	client  *shardcast.Client
	out     io.Writer         // receives results
	display *progress.Display // shows downloads
	logger  *slog.Logger
}

// begin returns a session for the flags of cmd. The caller closes its client.
func (d *download) begin(cmd *cobra.Command) (*session, error) {
	opts := d.opts
	port, err := cli.ServerPort(opts.Servers, "servers")
	if err == nil {
		err = cli.Requires(cmd.Flags(), "swarm", "swarm-allow", "host", "port", "seed-for", "ready-fd")
	}
	if err != nil {
		return nil, err
	}
	if !opts.Swarm.Enabled {
		opts.Swarm.Allow = nil // which the environment may have
	}
	stderr := cli.Stderr(cmd)
	mode := d.progress
	if cli.LogsJSON(cmd) {
		mode = mode.BesideJSON()
	}
	display := progress.New(mode, os.Stderr, stderr)
	opts.ServerPort, opts.Progress, opts.Logger = port, display.Update(), d.logger(stderr)
	cli.WarnOfPasswords(cmd.Flags(), "servers", opts.Servers, opts.Logger)
	c, err := shardcast.NewClient(opts)
	if err != nil {
		return nil, err
	}
	return &session{client: c, out: cmd.OutOrStdout(), display: display, logger: opts.Logger}, nil
}

// print prints a result: its path, or with --json all of it.
func (d *download) print(out io.Writer, got shardcast.Result) error {
	if d.json {
		return progress.WriteResult(out, got)
	}
	_, err := fmt.Fprintln(out, got.Path)
	return err
}

// listed returns the version of --version, or all listed ones.
func (d *download) listed(ctx context.Context, c *shardcast.Client) ([]shardcast.Version, error) {
	if d.version == "" {
		return c.List(ctx)
	}
	v, err := c.Find(ctx, d.version)
	return []shardcast.Version{v}, err
}

// printList prints the listed versions, as a table or with --json as objects, and with --files
// those that can be had of their files.
func (d *download) printList(ctx context.Context, c *shardcast.Client, out io.Writer) error {
	versions, err := d.listed(ctx, c)
	if err != nil {
		return err
	}
	var release shardcast.Release
	if len(d.opts.Trust.Keys) > 0 {
		if release, err = c.Release(); errors.Is(err, shardcast.ErrExpired) {
			err = nil // which the list says
		}
		if err != nil {
			return err
		}
	}
	var failed error
	for i := range versions {
		if d.files {
			var bad error
			if versions[i].Files, bad = c.Files(ctx, versions[i]); bad != nil {
				failed = errors.Join(failed, bad)
			}
		}
		if d.json {
			if err := progress.WriteVersion(out, versions[i], release); err != nil {
				return err
			}
			versions[i].Files = nil // a list has up to 64 MiB
		}
	}
	switch {
	case d.json:
	case d.files:
		err = progress.WriteFiles(out, versions)
	default:
		err = progress.WriteVersions(out, versions, release)
	}
	return errors.Join(err, failed)
}
