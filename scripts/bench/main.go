//go:build linux

// Command bench measures the three commands beside the tools that people use today, on
// loopback, without root, in a temporary directory that it removes again. It runs on
// Linux, whose /proc has the memory of a server.
//
//   - publish: cutting and hashing a file, beside openssl, split and cp;
//   - fetch: downloading and verifying it, beside curl, aria2c, wget and a bare
//     program that does only the necessary;
//   - signed: the same with the publisher's key and without it, on one core and on two;
//   - serve: bytes per CPU second of the server, beside nginx;
//   - relay: the same through a middle;
//   - small: publish and fetch with many small shards;
//   - tree: publish and fetch of a directory beside one file of that size, and of one of
//     many small files beside tar;
//   - delta: encoding and applying deltas on one core and on two, of weights after a training
//     step, of random bytes with others inserted, with -model of the weights of a real model, and
//     with -old and -new of the files of two releases, beside xdelta3;
//   - swarm: nodes that swap shards, beside openssl;
//   - versions: many clients that wait for the next version;
//   - followers: what the nodes of a swarm cost their upstream beside the shards that it sends;
//   - memory: the peak of each role on a large file, whose size is -memory.
//
// Each round measures all rows of a table in turn, so that all other work of the machine
// hits all of them alike; so it does the commands of another build, with -base. A first
// round does not count. The report names missing tools. The clock starts when the disk
// has all earlier writes, and the files of a run are removed before the next one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/flags"
	"github.com/shardcast/shardcast/scripts/internal/machine"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == bareCommand:
		err = bare(ctx, os.Args[2:])
	case len(os.Args) > 1 && os.Args[1] == codecCommand:
		err = codec(ctx, os.Args[2:])
	default:
		err = run(ctx)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the values of the flags.
type options struct {
	size, shardSize, smallShard, memory flags.Bytes
	rounds, idle, waiting, versions     int
	followers                           int
	smallShards, files                  int
	levels                              flags.Numbers
	span                                time.Duration
	parts, rows, bin, base, dir         string
	model, old, now                     string
	report, against                     string
	seed                                uint64
}

// parse reads the flags.
func parse() (options, error) {
	o := options{size: 1 << 30, shardSize: 50_000_000, smallShard: 100_000, levels: flags.Numbers{1, 10, 100, 1000}}
	flag.Var(&o.size, "size", "`BYTES` of the file")
	flag.Var(&o.shardSize, "shard-size", "`BYTES` of a shard")
	flag.IntVar(&o.rounds, "rounds", 5, "`NUMBER` of rounds that count, after one that does not")
	flag.Var(&o.levels, "levels", "`NUMBERS` of concurrent downloads, separated by commas")
	flag.IntVar(&o.idle, "idle", 1000, "`NUMBER` of idle connections")
	flag.DurationVar(&o.span, "span", 500*time.Millisecond,
		"`DURATION` of reading from a server; four times that with more than 100 downloads")
	flag.IntVar(&o.smallShards, "small-shards", 2000, "`NUMBER` of small shards")
	flag.Var(&o.smallShard, "small-size", "`BYTES` of a small shard")
	flag.IntVar(&o.files, "files", 50_000, "`NUMBER` of small files of a directory, up to 100000")
	flag.IntVar(&o.waiting, "waiting", 1000, "`NUMBER` of clients that wait for a version")
	flag.IntVar(&o.followers, "followers", 2000, "`NUMBER` of nodes of a swarm, up to 4000")
	flag.IntVar(&o.versions, "versions", 15, "`NUMBER` of versions that a server lists then")
	flag.Var(&o.memory, "memory",
		"`BYTES` of the file for the memory of each role, such as 8GiB, in four times as much room; 0 leaves it out")
	flag.StringVar(&o.parts, "parts", strings.Join(partNames(), ","),
		"`PARTS` to run, separated by commas; none for memory alone")
	flag.StringVar(&o.rows, "rows", "",
		"regular `EXPRESSION` for the rows to run, such as 'shardcast|curl' (default all)")
	flag.StringVar(&o.bin, "bin", "bin", "`DIRECTORY` of the commands")
	flag.StringVar(&o.base, "base", "", "`DIRECTORY` of other commands to compare with, in the same rounds")
	flag.StringVar(&o.model, "model", "", "ONNX `FILE` of a real model, for a delta of its weights")
	flag.StringVar(&o.old, "old", "", "`DIRECTORY` of the files of a release, for a delta")
	flag.StringVar(&o.now, "new", "", "`DIRECTORY` of the files of the release after it")
	flag.StringVar(&o.dir, "dir", "",
		"`DIRECTORY` to work in, with room for six times the size (default that of temporary files)")
	flag.StringVar(&o.report, "report", "", "`DIRECTORY` to write a report to, called by the date: .md and .json")
	flag.StringVar(&o.against, "check", "",
		"report in JSON to compare with, or a `DIRECTORY` with the newest; exit with 1 if something became worse")
	flag.Uint64Var(&o.seed, "seed", 1, "`SEED` of the files' bytes")
	flag.Parse()
	if flag.NArg() > 0 || min(o.rounds, o.idle, o.smallShards, o.files, o.waiting, o.versions, o.followers) < 1 ||
		o.followers > mostFollowers || min(o.size, o.shardSize, o.smallShard) < 1 || o.span <= 0 {
		return o, errors.New("numbers are 1 or more, and nothing but flags is taken")
	}
	return o, nil
}

// A bench measures one set of commands. Those of the base share all but where the
// commands are.
type bench struct {
	flags options

	bin, base string // directories of the commands, and of those to compare with
	of        string // is before the names of rows
	dir       string // to work in

	only   *regexp.Regexp // the rows to run
	report *Report
	self   string // this program, which is also the bare one
	file   file.File
	made   version // of file
}

// sides are the bench, and with -base one for the other commands.
func (b *bench) sides() []*bench {
	if b.base == "" {
		return []*bench{b}
	}
	base := *b
	base.bin, base.of = b.base, baseOf
	return []*bench{b, &base}
}

// baseOf is before the names of rows of base commands.
const baseOf = "base "

// A part measures one or more tables.
type part struct {
	name string
	run  func(*bench, context.Context) error
}

// parts are all of them, in the order in which they run.
func parts() []part {
	return []part{
		{"publish", (*bench).publishPart},
		{"fetch", (*bench).fetchPart},
		{"signed", (*bench).signedPart},
		{"serve", (*bench).servePart},
		{"tls", (*bench).tlsPart},
		{"relay", (*bench).relayPart},
		{"small", (*bench).smallPart},
		{"tree", (*bench).treePart},
		{"delta", (*bench).deltaPart},
		{"swarm", (*bench).swarmPart},
		{"versions", (*bench).versionsPart},
		{"followers", (*bench).followersPart},
	}
}

// partNames are the names of all parts.
func partNames() (names []string) {
	for _, p := range parts() {
		names = append(names, p.name)
	}
	return names
}

func run(ctx context.Context) (err error) {
	o, err := parse()
	if err != nil {
		return err
	}
	var before *Report
	if o.against != "" { // which the new report may replace
		if before, err = readReport(o.against); err != nil {
			return err
		}
	}
	b := &bench{flags: o}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := b.measure(ctx); err != nil {
		return err
	}
	fmt.Print(b.report.Markdown())
	if o.report != "" {
		if err := b.report.write(o.report); err != nil {
			return err
		}
	}
	if before != nil {
		return compare(before, b.report)
	}
	return nil
}

// prepare makes the directory to work in and looks at the machine.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.only, err = regexp.Compile(b.flags.rows); err != nil {
		return err
	}
	if b.bin, err = filepath.Abs(b.flags.bin); err != nil {
		return err
	}
	if b.flags.base != "" {
		if b.base, err = filepath.Abs(b.flags.base); err != nil {
			return err
		}
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	for _, role := range []string{"origin", "middle", "client"} {
		for _, side := range b.sides() {
			if _, err := os.Stat(side.command(role)); err != nil {
				return fmt.Errorf("%w: make build first", err)
			}
		}
	}
	if b.dir, err = os.MkdirTemp(b.flags.dir, "shardcast-bench-"); err != nil {
		return err
	}
	if b.dir, err = filepath.Abs(b.dir); err != nil {
		return err
	}
	b.report = &Report{
		Date: time.Now().Format(time.DateOnly), Rounds: b.flags.rounds,
		Arguments: os.Args[1:], Machine: machine.This(ctx, b.dir, tools(b.command("origin"))...),
	}
	return nil
}

// measure runs the parts that the flags name.
func (b *bench) measure(ctx context.Context) error {
	names := strings.FieldsFunc(b.flags.parts, func(r rune) bool { return r == ',' })
	for _, name := range names {
		if !slices.Contains(partNames(), name) && name != "none" {
			return fmt.Errorf("there is no part %q", name)
		}
	}
	all := parts()
	if b.flags.memory > 0 {
		names = append(names, "memory")
		all = append(all, part{"memory", (*bench).memoryPart})
	}
	start := time.Now()
	for _, p := range all {
		if !slices.Contains(names, p.name) {
			continue
		}
		if err := p.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	b.report.Took = time.Since(start).Round(time.Second).String()
	return nil
}

// command is the path of one of ours.
func (b *bench) command(role string) string { return filepath.Join(b.bin, "shardcast-"+role) }

// tools are commands that print the releases for the report.
func tools(origin string) [][]string {
	return [][]string{
		{origin, "version"},
		{"openssl", "version"},
		{"curl", "--version"},
		{"aria2c", "--version"},
		{"wget", "--version"},
		{"split", "--version"},
		{"xdelta3", "-V"},
		{nginx(), "-v"},
	}
}
