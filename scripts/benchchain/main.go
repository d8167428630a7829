// Command benchchain measures how soon what an origin publishes is at the far end of
// a chain of middles, over links that --limit-rate makes as slow as real ones, and
// what many readers of one middle cost. All of it runs on loopback, with the real
// commands, in a temporary directory.
//
//   - chain: from publishing to the verified file at a client of the last middle, as
//     a ratio to the file's size divided by the rate;
//   - known: from publishing a small file to its version being listed by the last
//     middle;
//   - fanout: the same as chain, with middles side by side, and how many times the
//     origin sends the file;
//   - readers: what a middle fetches of a shard that many ask for while it arrives;
//   - memory: the peak of a middle with many slow readers.
//
// It exits with 1 if a bound is missed, unless it only reports.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/machine"
	"github.com/shardcast/shardcast/scripts/internal/process"
)

const (
	// least is how long a round may take, beside ten times what it must.
	least = 5 * time.Minute

	// settle is how long servers and waiting clients have to get to rest.
	settle = time.Second

	// Bounds that are to be kept.
	mostRatio  = 1.05
	mostKnown  = 250 // milliseconds, at the median
	mostCopies = 1.05
	mostMemory = 64 // MiB
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchchain:", err)
		os.Exit(1)
	}
}

// bench is what all parts share.
type bench struct {
	bin, dir, interval  string
	size, large, rate   file.Bytes
	shards, tiers       int
	rounds, publishes   int
	readers             int
	seed                uint64
	report, clientWaits bool
	parts               string

	missed []string // the bounds that were
}

func run(ctx context.Context) (err error) {
	b := &bench{size: 512_000_000, large: 1_000_000_000, rate: 50_000_000}
	flag.Var(&b.size, "size", "`BYTES` of the file")
	flag.Var(&b.rate, "rate", "`BYTES` per second that each server of the chain sends")
	flag.Var(&b.large, "large", "`BYTES` of the file that memory is measured on")
	flag.IntVar(&b.shards, "shards", 16, "`NUMBER` of shards of the file")
	flag.IntVar(&b.tiers, "tiers", 3, "`NUMBER` of middles in the chain")
	flag.IntVar(&b.rounds, "rounds", 5, "`NUMBER` of rounds")
	flag.IntVar(&b.publishes, "publishes", 20, "`NUMBER` of small files that are published one after the other")
	flag.IntVar(&b.readers, "readers", 64, "`NUMBER` of readers of one middle")
	flag.StringVar(&b.interval, "check-interval", "", "the middles' --check-interval in `SECONDS` (default theirs)")
	flag.StringVar(&b.parts, "parts", "chain,known,fanout,readers,memory", "`PARTS` to run, separated by commas")
	flag.StringVar(&b.bin, "bin", "bin", "`DIRECTORY` of the commands")
	flag.StringVar(&b.dir, "dir", "", "`DIRECTORY` to work in, with room for eight times the size (default that of temporary files)")
	flag.Uint64Var(&b.seed, "seed", 1, "`SEED` of the files' bytes")
	flag.BoolVar(&b.report, "report", false, "exit with 0 also if a bound is missed")
	flag.Parse()
	if flag.NArg() > 0 || min(b.shards, b.tiers, b.rounds, b.publishes, b.readers) < 1 || min(b.size, b.large, b.rate) < 1 {
		return errors.New("numbers are 1 or more, and nothing but flags is taken")
	}
	if b.bin, err = filepath.Abs(b.bin); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(b.dir, "shardcast-benchchain-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	return b.measure(ctx)
}

// measure runs the parts and says which bounds were missed.
func (b *bench) measure(ctx context.Context) error {
	help, err := process.Start(ctx, b.command("client"), "--help")
	if err != nil {
		return err
	}
	if _, err := help.Wait(); err != nil {
		return err
	}
	b.clientWaits = help.Logged("--wait")
	fmt.Print(machine.This(ctx, b.dir, []string{b.command("origin"), "version"}))
	fmt.Println("Ratios are what counts: absolute times are those of this machine, now. Where nothing")
	fmt.Println("else is said, the clock starts when the origin lists the version.")
	parts := map[string]func(context.Context) error{
		"chain": b.chain, "known": b.known, "fanout": b.fanOut, "readers": b.manyReaders, "memory": b.memory,
	}
	names := strings.Split(b.parts, ",")
	for _, name := range names {
		if parts[name] == nil {
			return fmt.Errorf("there is no part %q", name)
		}
	}
	for _, name := range names {
		if err := parts[name](ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return b.verdict()
}

// verdict is an error if a bound was missed, unless that is only to be reported.
func (b *bench) verdict() error {
	fmt.Println()
	switch {
	case len(b.missed) == 0:
		fmt.Println("All bounds are kept.")
	case b.report:
		fmt.Println("Missed: " + strings.Join(b.missed, "\nMissed: "))
	default:
		return errors.New("missed: " + strings.Join(b.missed, "\nmissed: "))
	}
	return nil
}

// miss says that a bound was missed.
func (b *bench) miss(format string, args ...any) {
	if sentence := fmt.Sprintf(format, args...); !slices.Contains(b.missed, sentence) {
		b.missed = append(b.missed, sentence)
	}
}

func (b *bench) command(role string) string { return filepath.Join(b.bin, "shardcast-"+role) }

// ideal is how long one link takes for size bytes.
func (b *bench) ideal(size file.Bytes) time.Duration {
	return time.Duration(float64(size) / float64(b.rate) * float64(time.Second))
}

// round runs f in a directory of its own, which is removed afterwards, within the
// time that a round has.
func (b *bench) round(ctx context.Context, ideal time.Duration, f func(ctx context.Context, dir string) error) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, least+10*ideal, errors.New("a round takes too long"))
	defer cancel()
	dir, err := os.MkdirTemp(b.dir, "round-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := f(ctx, dir); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return fmt.Errorf("%w: %w", cause, err)
		}
		return err
	}
	return nil
}

// pause waits for d, or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// heading begins a table.
func heading(format string, args ...any) {
	fmt.Printf("\n%s\n%-58s %8s %8s %8s %8s %8s\n", fmt.Sprintf(format, args...), "", "median", "min", "p90", "max", "at most")
}

// row prints what has been measured, and returns the median. A bound of 0 is none.
func row(name string, values []float64, bound float64) float64 {
	values = slices.SortedFunc(slices.Values(values), cmp.Compare)
	at := func(quantile float64) float64 { return values[int(quantile*float64(len(values)-1)+0.5)] }
	fmt.Printf("  %-56s %8.2f %8.2f %8.2f %8.2f", name, at(0.5), values[0], at(0.9), values[len(values)-1])
	if bound > 0 {
		fmt.Printf(" %8.2f", bound)
	}
	fmt.Println()
	return at(0.5)
}
