// Command lab measures how soon a file is on all nodes of a network whose links are
// as slow as real ones: each node is a network namespace on a bridge, with its own
// shaped up- and downlink, and runs the real commands. Beside shardcast it measures
// nginx with aria2c, also with nginx as a cache in between, and BitTorrent (aria2c),
// where they are installed; and with -base the commands of another build, in the same
// rounds.
//
// It needs root, Linux, ip and tc. Bridge and links are in namespaces of their own,
// called sclab-PID-..., so that the lab touches no other interface, and it removes all
// of them at the end, also after ctrl-C.
//
// The clock starts when the origin is up and holds the file, and nothing else runs
// yet; it stops when the last node holds the verified file. The wires allow
//
//	max(S / up of the origin, S / slowest down, N * S / sum of all up)
//
// for a file of S bytes and N nodes that want it (see [plan.bound]), and results are
// this bound divided by the time: 1 is ideal. The links count packet headers, so that
// 0.955 is the most.
//
// Some scenarios start the clock elsewhere, or measure something else of shardcast
// alone: see the legend of a report, or [scenarios]. A median of shardcast's that misses
// the goal of its scenario is an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/flags"
	"github.com/shardcast/shardcast/scripts/internal/process"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := dispatch(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

// dispatch runs the lab, or a program that the lab runs in a namespace.
func dispatch(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return run(ctx)
	}
	switch name, args := args[0], args[1:]; name {
	case trackerCommand:
		return track(ctx, args[0])
	case liarCommand:
		return lie(ctx, args[0], args[1], args[2])
	case attackCommand:
		return attack(ctx, args[0], args[1], args[2])
	case watchCommand:
		watch(ctx, args[0])
		return nil
	case readCommand:
		return read(ctx, args[0], args[1])
	}
	return run(ctx)
}

// rate is a flag of bits per second.
type rate int64

// String returns the number as tc writes it.
func (r *rate) String() string {
	n, unit := int64(*r), "bit"
	for _, u := range []string{"kbit", "mbit", "gbit"} {
		if n == 0 || n%1000 != 0 {
			break
		}
		n, unit = n/1000, u
	}
	return strconv.FormatInt(n, 10) + unit
}

// Set reads 200mbit, 1gbit and 500kbit.
func (r *rate) Set(s string) error {
	n, unit, err := humanize.ParseSI(strings.Replace(strings.ToLower(s), "m", "M", 1))
	if gigabits, ok := strings.CutSuffix(strings.ToLower(s), "gbit"); ok {
		n, err = strconv.ParseFloat(gigabits, 64)
		n, unit = n*1e9, "bit"
	}
	if err == nil && (unit != "bit" || n < 64_000 || n > 1e12) {
		err = errors.New("want bits per second, such as 200mbit, and 64kbit or more")
	}
	*r = rate(n)
	return err
}

// bytesPerSecond is the rate in bytes, with packet headers.
func (r rate) bytesPerSecond() float64 { return float64(r) / 8 }

// words is a flag of words, separated by spaces.
type words []string

// String returns the words.
func (w *words) String() string { return strings.Join(*w, " ") }

// Set reads the words.
func (w *words) Set(s string) error {
	*w = strings.Fields(s)
	return nil
}

// mostNodes is the most clients that the lab has addresses and patience for.
const mostNodes = 1000

// A lab is common to all trials.
type lab struct {
	bin, base          string
	dir, report        string
	scenarios, systems string
	congestion         string
	nodes              flags.Numbers
	rate               rate
	path               path
	size, shardSize    flags.Bytes
	middles, rounds    int
	seed               uint64

	originArgs, middleArgs, clientArgs words

	prefix string // of all namespaces
	second bool   // there are two versions at a time
	file   file.File
}

func run(ctx context.Context) (err error) {
	l := &lab{
		nodes: flags.Numbers{1, 2, 4, 8}, rate: 200_000_000, size: 128 << 20, shardSize: 1_000_000,
		prefix: "sclab-" + strconv.Itoa(os.Getpid()),
	}
	flag.Var(&l.nodes, "nodes",
		"`NUMBERS` of clients, separated by commas: each for star and tree, the largest for all else")
	flag.Var(&l.rate, "rate", "`RATE` of each link in either direction, in kbit, mbit or gbit per second")
	flag.DurationVar(&l.path.trip, "trip", 0,
		"round-trip `TIME` between two nodes, such as 100ms; the lab joins them itself, which costs processor time")
	flag.Float64Var(&l.path.loss, "loss", 0, "`SHARE` of the packets to each node that are lost, such as 0.01")
	flag.Var(&l.size, "size", "`BYTES` of the file")
	flag.Var(&l.shardSize, "shard-size", "`BYTES` of a shard")
	flag.IntVar(&l.middles, "middles", 2, "`NUMBER` of middles in tree and fanout")
	flag.IntVar(&l.rounds, "rounds", 3, "`NUMBER` of rounds, each of which runs everything once")
	flag.StringVar(&l.scenarios, "scenarios", names(scenarios()), "`NAMES`, separated by commas")
	flag.StringVar(&l.systems, "systems", "", "`NAMES` of "+names(systems(""))+" (default all that are installed)")
	flag.StringVar(&l.congestion, "congestion", "",
		"congestion control by `NAME`, such as cubic (default that of new namespaces)")
	flag.StringVar(&l.report, "report", "", "`DIRECTORY` to write the report into, as Markdown and JSON")
	flag.StringVar(&l.bin, "bin", "bin", "`DIRECTORY` of the commands")
	flag.StringVar(&l.base, "base", "", "`DIRECTORY` of other commands to compare with, in the same rounds")
	flag.StringVar(&l.dir, "dir", "",
		"`DIRECTORY` to work in (default /dev/shm if there is room, else that of temporary files)")
	flag.Uint64Var(&l.seed, "seed", 1, "`SEED` of the file's bytes")
	flag.Var(&l.originArgs, "origin-args", "more `FLAGS` for shardcast-origin, separated by spaces")
	flag.Var(&l.middleArgs, "middle-args", "more `FLAGS` for shardcast-middle")
	flag.Var(&l.clientArgs, "client-args", "more `FLAGS` for shardcast-client")
	flag.Parse()
	if flag.NArg() > 0 || min(l.rounds, l.middles) < 1 || min(l.size, l.shardSize) < 1 {
		return errors.New("numbers are 1 or more, and nothing but flags is taken")
	}
	if l.path.trip < 0 || l.path.loss < 0 || l.path.loss >= 1 {
		return errors.New("a round trip is 0 or longer, and a loss at least 0 and less than 1")
	}
	if slices.Max(l.nodes) > mostNodes {
		return fmt.Errorf("at most %d nodes", mostNodes)
	}
	chosen, err := choose("scenario", scenarios(), l.scenarios)
	if err != nil {
		return err
	}
	l.second = slices.ContainsFunc(chosen, func(s scenario) bool { return s.name == updates })
	if l.bin, err = filepath.Abs(l.bin); err != nil {
		return err
	}
	if l.base != "" {
		if l.base, err = filepath.Abs(l.base); err != nil {
			return err
		}
	}
	systems, leftOut, err := l.installed()
	if err != nil {
		return err
	}
	if err := l.able(ctx); err != nil {
		return err
	}
	if err := l.workIn(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(l.dir)) }()
	r := l.newReport(ctx, leftOut)
	err = l.measure(ctx, r, systems, chosen)
	if !r.measured() {
		return err
	}
	fmt.Print(r.Markdown())
	if l.report != "" {
		err = errors.Join(err, r.write(l.report))
	}
	if missed := r.missed(); len(missed) > 0 {
		err = errors.Join(err, errors.New("missed: "+strings.Join(missed, "; ")))
	}
	return err
}

// able is an error that explains why there can be no lab here, or nil.
func (l *lab) able(ctx context.Context) error {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		return errors.New("the lab needs Linux and root, for network namespaces")
	}
	for _, name := range []string{"ip", "tc"} {
		if _, err := process.Program(name); err != nil {
			return fmt.Errorf("%s is missing, in Debian from the package iproute2", name)
		}
	}
	n, err := l.network(ctx, plan{{up: l.rate, down: l.rate}})
	if err == nil {
		l.congestion, err = n.congestion(ctx)
		err = errors.Join(err, n.close(ctx))
	}
	if err != nil {
		return fmt.Errorf("network namespaces, veth, bridge, tc tbf or the congestion control are missing: %w", err)
	}
	return nil
}

// workIn makes the directory to work in, in memory if there is room.
func (l *lab) workIn(ctx context.Context) (err error) {
	if l.dir == "" && room(ctx, shm) > l.need() {
		l.dir = shm
	}
	if l.dir, err = os.MkdirTemp(l.dir, l.prefix+"-"); err != nil {
		return err
	}
	if have := room(ctx, l.dir); have < l.need() {
		err := fmt.Errorf("%d bytes are free in %s, and the lab needs %d", have, l.dir, l.need())
		return errors.Join(err, os.RemoveAll(l.dir))
	}
	return nil
}

// need in bytes is the most on the disk at a time: the file, stocks of the commands and
// of the base with shards of three sizes, a file or shards at each node, and some for
// everything else. The scenario of two versions alone has two of each.
func (l *lab) need() int64 {
	files := 7 + slices.Max(l.nodes) + max(2*l.middles, chainMiddles)
	switch {
	case l.scenarios == updates:
		files = 4 + 2*slices.Max(l.nodes)
	case l.second:
		files += 2 + slices.Max(l.nodes)
	}
	return int64(l.size)*int64(files) + 1<<29
}

// installed are the systems of the flag, or else all, and those that cannot run here with
// the reason.
func (l *lab) installed() (there []system, leftOut []string, err error) {
	asked, err := choose("system", systems(l.bin), l.systems)
	if l.base != "" {
		asked = append(asked, based(asked, l.base)...)
	}
	for _, s := range asked {
		var missing []string
		for _, name := range s.needs {
			if _, err := process.Program(name); err != nil {
				missing = append(missing, name)
			}
		}
		if len(missing) == 0 {
			there = append(there, s)
			continue
		}
		leftOut = append(leftOut, fmt.Sprintf("%s, for lack of %s", s.name, strings.Join(missing, ", ")))
	}
	if err == nil && len(there) == 0 {
		err = errors.New(strings.Join(leftOut, "; "))
	}
	return there, leftOut, err
}

// named is chosen by its name.
type named interface{ called() string }

// names are the names of all, separated by commas.
func names[T named](all []T) string {
	var s []string
	for _, x := range all {
		s = append(s, x.called())
	}
	return strings.Join(s, ",")
}

// choose returns those of all in a list of names, and all for an empty list.
func choose[T named](what string, all []T, list string) (chosen []T, err error) {
	if list == "" {
		return all, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(x T) bool { return x.called() == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no %s %q, but %s", what, name, names(all))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// measure runs each system in each scenario, round by round, so that all other work of
// the machine hits all of them alike. A failed trial is noted, and is an error at the end.
func (l *lab) measure(ctx context.Context, r *Report, systems []system, chosen []scenario) error {
	began := time.Now()
	if err := l.prepare(ctx); err != nil {
		return err
	}
	failed := 0
	for round := range l.rounds {
		for _, j := range l.jobs(chosen, systems) {
			fmt.Fprintf(os.Stderr, "round %d of %d: ", round+1, l.rounds)
			err := l.once(ctx, r, j)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				failed++
			}
		}
		slices.Reverse(systems) // so that none is always the first
	}
	r.Took = time.Since(began).Round(time.Second).String()
	if failed > 0 {
		return fmt.Errorf("%d of the runs failed", failed)
	}
	return nil
}

// A job is a system in a variant of a scenario.
type job struct {
	variant variant
	system  system
}

// jobs are those of a round.
func (l *lab) jobs(chosen []scenario, systems []system) (all []job) {
	for _, v := range l.cases(chosen) {
		for _, s := range systems {
			if v.scenario.run == nil || s.bin != "" {
				all = append(all, job{v, s})
			}
		}
	}
	return all
}

// once runs a trial, adds its sample or its failure to the report, and prints it.
func (l *lab) once(ctx context.Context, r *Report, j job) error {
	fmt.Fprintf(os.Stderr, "%s, %d clients: %s: ", j.variant.scenario.name, j.variant.clients, j.system.name)
	sample, err := l.trial(ctx, j.system, j.variant)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	result := r.result(j.system.name, j.variant)
	if err != nil {
		result.fail(err)
		fmt.Fprintf(os.Stderr, "failed: %v\n", err)
		return err
	}
	result.Samples = append(result.Samples, sample)
	fmt.Fprintf(os.Stderr, "%.3f s, %.3f of the bound, %.2f times the file sent, %.0f %% idle\n",
		sample.All, sample.ratio(), sample.Sent, 100*sample.Idle)
	return nil
}

// A variant is a scenario with a number of clients.
type variant struct {
	scenario scenario
	clients  int
	plan     plan
}

// cases are the variants of the scenarios, one for each number of clients where they sweep.
func (l *lab) cases(chosen []scenario) (all []variant) {
	for _, s := range chosen {
		for _, n := range l.nodes {
			if s.sweep || n == slices.Max(l.nodes) {
				p := s.plan(shape{clients: n, middles: l.middles, rate: l.rate})
				all = append(all, variant{s, p.clients(), p})
			}
		}
	}
	return all
}
