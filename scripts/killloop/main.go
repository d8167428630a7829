// Command killloop kills clients and middles with SIGKILL at random moments of a
// download, through two proxies that stall, reset and corrupt answers, and starts them
// again, until they are done. Each time the file must be right, and the proxies must have
// sent less than 1.1 times its size. A directory of 30 files must be absent or whole after
// each kill of its client. A follower gets versions of a quarter of the size, each by a delta
// from the one before, of which it must be sent less than a quarter.
//
// Environment variables set it: SIZE of the file, and of the directory (1GiB), KILLS of each role (100), SEED of
// all random choices (1), BIN, the directory of the commands (bin), BASE, one with other
// commands to compare with, each kill by kill, and DIR to work in (that for temporary
// files), with room for twelve times SIZE.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/flags"
	"github.com/shardcast/shardcast/scripts/internal/process"
	"github.com/shardcast/shardcast/scripts/internal/report"
	"github.com/shardcast/shardcast/scripts/internal/spread"
)

const (
	// patience is the time that a round has.
	patience = 5 * time.Minute

	// most is the ratio of the sent bytes to the size that is too much.
	most = 1.1

	// shards is the number of shards of the file, so that a corrupt one weighs little.
	shards = 100

	// tail is the time after the last byte in which kills also happen.
	tail = 300 * time.Millisecond
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "killloop:", err)
		os.Exit(1)
	}
}

// A loop is common to all rounds.
type loop struct {
	bins     []string // directories of the commands, and of those to compare with
	bin, dir string   // bin is that of the round
	size     int64
	digest   shard.Digest // of the file, v1
	tree     shard.Digest // of the directory's stream, v2
	reach    int64        // bytes that are sent to a node that is not killed, about
	most     float64      // of the size are too much to be sent
	kills    int
	random   *rand.Rand
	proxies  []*faulty
}

// fromEnvironment is a loop without proxies, and the seed.
func fromEnvironment() (l *loop, seed uint64, err error) {
	size := flags.Bytes(1 << 30)
	if text := os.Getenv("SIZE"); text != "" {
		if err := size.Set(text); err != nil {
			return nil, 0, err
		}
	}
	l = &loop{size: int64(size), reach: int64(size), most: most}
	if l.kills, err = strconv.Atoi(cmp.Or(os.Getenv("KILLS"), "100")); err == nil && l.kills < 1 {
		err = errors.New("KILLS: want 1 or more")
	}
	if err != nil {
		return nil, 0, err
	}
	if seed, err = strconv.ParseUint(cmp.Or(os.Getenv("SEED"), "1"), 10, 64); err != nil {
		return nil, 0, err
	}
	l.random = rand.New(rand.NewPCG(seed, 0))
	l.bins = []string{cmp.Or(os.Getenv("BIN"), "bin")}
	if base := os.Getenv("BASE"); base != "" {
		l.bins = append(l.bins, base)
	}
	for i := range l.bins {
		if l.bins[i], err = filepath.Abs(l.bins[i]); err != nil {
			return nil, 0, err
		}
	}
	l.bin = l.bins[0]
	return l, seed, nil
}

func run(ctx context.Context) (err error) {
	l, seed, err := fromEnvironment()
	if err != nil {
		return err
	}
	if l.dir, err = os.MkdirTemp(os.Getenv("DIR"), "shardcast-killloop-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(l.dir)) }()
	fmt.Printf("%d bytes, %d kills of each role, seed %d, commands in %s\n",
		l.size, l.kills, seed, strings.Join(l.bins, " and "))
	f, err := file.Random(ctx, l.path("file.bin"), flags.Bytes(l.size), seed)
	if err != nil {
		return err
	}
	l.digest = f.Digest
	origin, err := l.start(ctx, "shardcast-origin", "--data-dir", l.path("origin"),
		"--host", "127.0.0.1", "--port", "0", "--shard-size", l.shardSize(), "--broadcast", f.Name)
	if err != nil {
		return err
	}
	defer origin.Kill()
	address, err := origin.Await(`msg=listening addr=(\S+)`)
	if err != nil {
		return err
	}
	if _, err := origin.Await(`msg=published`); err != nil {
		return err
	}
	for i := range uint64(2) {
		p := startProxy(address, i == 0, seed+i)
		defer p.server.Close()
		l.proxies = append(l.proxies, p)
	}
	whole := target{"v1", "out.bin", func(path string) error { return l.check(path) }}
	if err := errors.Join(l.rounds(ctx, "client", l.client(whole)), l.rounds(ctx, "middle", l.middle)); err != nil {
		return err
	}
	if err := l.broadcastTree(ctx, seed); err != nil {
		return err
	}
	l.bins = l.bins[:1] // others may not know directories
	if err := l.rounds(ctx, "directory", l.client(target{"v2", "out", l.checkTree})); err != nil {
		return err
	}
	return l.followUpdates(ctx, seed)
}

// start starts one of the commands.
func (l *loop) start(ctx context.Context, name string, args ...string) (*process.Process, error) {
	return process.Start(ctx, filepath.Join(l.bin, name), args...)
}

// shardSize is that of the published versions.
func (l *loop) shardSize() string { return strconv.FormatInt(max(l.size/shards, 1), 10) }

// path is that of a file of the loop.
func (l *loop) path(name string) string { return filepath.Join(l.dir, name) }

// sent is the number of bytes of shards that the proxies have sent so far.
func (l *loop) sent() (bytes int64) {
	for _, p := range l.proxies {
		bytes += p.sent.Load()
	}
	return bytes
}

// A moment is the time of a kill.
type moment struct {
	bytes int64         // after so many sent bytes
	delay time.Duration // and so much later
}

// moment draws one: at any byte, and now and then after the last.
func (l *loop) moment() moment {
	m := moment{bytes: l.random.Int64N(l.reach + l.reach/20 + 1)}
	if m.bytes >= l.reach {
		m.delay = time.Duration(l.random.Int64N(int64(tail)))
		m.bytes = l.reach
	}
	return m
}

// errEarly means that a process was done before its kill.
var errEarly = errors.New("it has ended before it was killed")

// killAt kills p at m, unless done matches its log before, or it ends.
func (l *loop) killAt(p *process.Process, m moment, done string) error {
	defer p.Kill()
	before := l.sent()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for l.sent()-before < m.bytes {
		select {
		case <-tick.C:
			if p.Logged(done) {
				return errEarly
			}
		case <-p.Ended():
			return errEarly
		}
	}
	select {
	case <-time.After(m.delay):
	case <-p.Ended():
	}
	if p.Logged(done) {
		return errEarly
	}
	return nil
}

// A tally has the results of the rounds of a role with the commands in a directory.
type tally struct {
	role, bin     string
	ratios, times []float64 // sent bytes by the size, seconds
	early         int       // rounds whose process was done before its kill
}

// rounds makes a round for each kill and set of commands, and prints the results.
func (l *loop) rounds(ctx context.Context, role string, round func(context.Context, moment) error) error {
	var all []*tally
	for _, bin := range l.bins {
		all = append(all, &tally{role: role, bin: bin})
	}
	for range l.kills {
		m := l.moment()
		for _, t := range all {
			if err := l.kill(ctx, t, m, round); err != nil {
				return err
			}
		}
	}
	for _, t := range all {
		t.print()
	}
	if now := all[0]; len(all) > 1 {
		var b report.Base
		b.Add(role+", seconds", all[1].times, now.times, 2, false)
		b.Add(role+", sent by size", all[1].ratios, now.ratios, 3, false)
		fmt.Println(b.String())
	}
	if worst := slices.Max(all[0].ratios); worst >= l.most {
		return fmt.Errorf("%s: %.3f times the size was sent", role, worst)
	}
	return nil
}

// kill makes a round, and one of another moment when the process is done before its kill.
func (l *loop) kill(ctx context.Context, t *tally, m moment, round func(context.Context, moment) error) error {
	l.bin = t.bin
	before, start := l.sent(), time.Now()
	limited, cancel := context.WithTimeout(ctx, patience)
	err := round(limited, m)
	cancel()
	if errors.Is(err, errEarly) && t.early < 10*l.kills {
		t.early++
		return l.kill(ctx, t, l.moment(), round)
	}
	number := len(t.ratios) + 1
	if err != nil {
		return fmt.Errorf("%s, kill %d, after %d bytes and %v: %w", t.role, number, m.bytes, m.delay, err)
	}
	ratio, took := float64(l.sent()-before)/float64(l.size), time.Since(start).Seconds()
	t.ratios, t.times = append(t.ratios, ratio), append(t.times, took)
	fmt.Printf("%s %3d: killed after %5.1f%% and %3d ms, sent %.3f times the size in %.1f s\n",
		t.role, number, 100*float64(m.bytes)/float64(l.reach), m.delay.Milliseconds(), ratio, took)
	return nil
}

// print prints the spreads of a tally.
func (t *tally) print() {
	sent, took := spread.Of(t.ratios), spread.Of(t.times)
	fmt.Printf("\n%s, commands in %s\n", t.role, t.bin)
	fmt.Printf("%-8s %5s %6s %6s %6s %6s\n", "", "", "min", "median", "max", "early")
	fmt.Printf("%-8s %5s %6.3f %6.3f %6.3f %6d\n", "", "ratio", sent.Least, sent.Median, sent.Greatest, t.early)
	fmt.Printf("%-8s %5s %6.1f %6.1f %6.1f\n\n", "", "s", took.Least, took.Median, took.Greatest)
}

// fetching are the flags of a node that fetches, with waits that suit a test.
func (l *loop) fetching(flag string) []string {
	proxies := l.proxies[0].address() + "," + l.proxies[1].address()
	return []string{flag, proxies, "--timeout", "1", "--fast-interval", "0.1"}
}

// A target is a version that a client downloads.
type target struct {
	version, base string
	check         func(path string) error // whether all of it is at path
}

// client returns rounds with a client.
func (l *loop) client(of target) func(context.Context, moment) error {
	return func(ctx context.Context, m moment) error {
		dir := l.path("client")
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		out := filepath.Join(dir, of.base)
		args := append(l.fetching("--servers"), "--version", of.version, "--output-file", out)
		p, err := l.start(ctx, "shardcast-client", args...)
		if err != nil {
			return err
		}
		if err := l.killAt(p, m, "msg=downloaded"); err != nil {
			return err
		}
		// The kill may have come between the name and the message.
		if _, err := os.Stat(out); err == nil {
			return cmp.Or(of.check(out), errEarly)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return l.goOn(ctx, of, out, args)
	}
}

// goOn runs a client with args again after its kill, to the end.
func (l *loop) goOn(ctx context.Context, of target, out string, args []string) error {
	p, err := l.start(ctx, "shardcast-client", args...)
	if err != nil {
		return err
	}
	defer p.Kill()
	if _, err := p.Await("msg=downloaded"); err != nil {
		return err
	}
	if _, err := p.Wait(); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(filepath.Dir(out), ".*"))
	if err == nil && names != nil {
		err = fmt.Errorf("left behind: %v", names)
	}
	return cmp.Or(err, of.check(out))
}

// middle is a round with a middle.
func (l *loop) middle(ctx context.Context, m moment) error {
	dir := l.path("middle")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	args := append(l.fetching("--upstream"), "--data-dir", dir, "--check-interval", "0.2",
		"--host", "127.0.0.1", "--port", "0")
	p, err := l.start(ctx, "shardcast-middle", args...)
	if err != nil {
		return err
	}
	if err := l.killAt(p, m, "msg=fetched"); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "distribution.txt")); err == nil {
		return errEarly
	}
	if p, err = l.start(ctx, "shardcast-middle", args...); err != nil {
		return err
	}
	defer p.Kill()
	if _, err := p.Await("msg=fetched version=v1"); err != nil {
		return err
	}
	p.Kill()
	shards, err := filepath.Glob(filepath.Join(dir, "v1", "shard_*.bin"))
	if err != nil {
		return err
	}
	slices.Sort(shards)
	return l.check(shards...)
}

// check returns an error unless files are the published one, one after the other.
func (l *loop) check(names ...string) error {
	digest, err := file.Digest(names...)
	if err == nil && digest != l.digest {
		err = fmt.Errorf("not the published bytes: %s", strings.Join(names, " "))
	}
	return err
}
