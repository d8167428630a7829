// Command killloop kills clients and middles with SIGKILL at random moments of a
// download, through two proxies that stall, reset and corrupt what they pass on,
// and has them go on until they are done. Each time the file must be right, and
// what the proxies have sent of it less than 1.1 times its size.
//
// It is set by the environment: SIZE of the file (1GiB), KILLS of each role (100),
// SEED of all that is random (1), BIN with the commands (bin), and DIR to work in
// (that for temporary files), which needs four times SIZE.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/process"
)

const (
	// patience is how long a round may take.
	patience = 5 * time.Minute

	// most is the ratio of what was sent to the size that is too much.
	most = 1.1

	// shards is how many a file has, for one that is corrupt not to weigh much.
	shards = 100

	// tail is how long after the last byte a process may be killed.
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

// loop is what all rounds share.
type loop struct {
	bin, dir string
	size     int64
	kills    int
	random   *rand.Rand
	proxies  []*faulty
}

func run(ctx context.Context) (err error) {
	size, err := humanize.ParseBytes(cmp.Or(os.Getenv("SIZE"), "1GiB"))
	if err != nil {
		return err
	}
	kills, err := strconv.Atoi(cmp.Or(os.Getenv("KILLS"), "100"))
	if err != nil {
		return err
	}
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("SEED"), "1"), 10, 64)
	if err != nil {
		return err
	}
	bin, err := filepath.Abs(cmp.Or(os.Getenv("BIN"), "bin"))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(os.Getenv("DIR"), "shardcast-killloop-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l := &loop{bin: bin, dir: dir, size: int64(size), kills: kills, random: rand.New(rand.NewPCG(seed, 0))}
	fmt.Printf("%d bytes, %d kills of each role, seed %d\n", l.size, l.kills, seed)
	if _, err := file.Random(ctx, l.path("file.bin"), file.Bytes(l.size), seed); err != nil {
		return err
	}
	origin, err := l.start(ctx, "shardcast-origin", "--data-dir", l.path("origin"), "--host", "127.0.0.1", "--port", "0",
		"--shard-size", strconv.FormatInt(max(l.size/shards, 1), 10), "--broadcast", l.path("file.bin"))
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
		defer p.Close()
		l.proxies = append(l.proxies, p)
	}
	return errors.Join(l.rounds(ctx, "client", l.client), l.rounds(ctx, "middle", l.middle))
}

// start starts one of the commands.
func (l *loop) start(ctx context.Context, name string, args ...string) (*process.Process, error) {
	return process.Start(ctx, filepath.Join(l.bin, name), args...)
}

func (l *loop) path(name string) string { return filepath.Join(l.dir, name) }

// sent is what the proxies have sent so far.
func (l *loop) sent() (bytes int64) {
	for _, p := range l.proxies {
		bytes += p.sent.Load()
	}
	return bytes
}

// moment is when a process is killed.
type moment struct {
	bytes int64         // when so many have been sent
	delay time.Duration // and so much later
}

// moment draws one: at any byte, and now and then after the last.
func (l *loop) moment() moment {
	m := moment{bytes: l.random.Int64N(l.size + l.size/20)}
	if m.bytes >= l.size {
		m.delay = time.Duration(l.random.Int64N(int64(tail)))
		m.bytes = l.size
	}
	return m
}

// errEarly means that a process was done before it was to be killed.
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

// rounds makes as many rounds as there are to be kills, and prints how they went.
// What is done too early to be killed is made again.
func (l *loop) rounds(ctx context.Context, role string, round func(context.Context, moment) error) error {
	var ratios, times []float64
	early := 0
	for len(ratios) < l.kills {
		m := l.moment()
		before, start := l.sent(), time.Now()
		limited, cancel := context.WithTimeout(ctx, patience)
		err := round(limited, m)
		cancel()
		if errors.Is(err, errEarly) && early < 10*l.kills {
			early++
			continue
		}
		if err != nil {
			return fmt.Errorf("%s, kill %d, after %d bytes and %v: %w", role, len(ratios)+1, m.bytes, m.delay, err)
		}
		ratio := float64(l.sent()-before) / float64(l.size)
		ratios = append(ratios, ratio)
		times = append(times, time.Since(start).Seconds())
		fmt.Printf("%s %3d: killed after %5.1f%% and %3d ms, sent %.3f times the size in %.1f s\n", role, len(ratios),
			100*float64(m.bytes)/float64(l.size), m.delay.Milliseconds(), ratio, times[len(times)-1])
	}
	slices.Sort(ratios)
	slices.Sort(times)
	fmt.Printf("\n%-8s %5s %6s %6s %6s %6s\n", role, "", "min", "median", "max", "early")
	fmt.Printf("%-8s %5s %6.3f %6.3f %6.3f %6d\n", "", "ratio", ratios[0], ratios[len(ratios)/2], ratios[len(ratios)-1], early)
	fmt.Printf("%-8s %5s %6.1f %6.1f %6.1f\n\n", "", "s", times[0], times[len(times)/2], times[len(times)-1])
	if worst := ratios[len(ratios)-1]; worst >= most {
		return fmt.Errorf("%s: %.3f times the size was sent", role, worst)
	}
	return nil
}

// fetching are the flags for those that fetch, with waits that suit a test.
func (l *loop) fetching(flag string) []string {
	return []string{flag, l.proxies[0].address() + "," + l.proxies[1].address(), "--timeout", "1", "--fast-interval", "0.1"}
}

// client is a round with a client.
func (l *loop) client(ctx context.Context, m moment) error {
	dir := l.path("client")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	out := filepath.Join(dir, "out.bin")
	args := append(l.fetching("--servers"), "--version", "v1", "--output-file", out)
	p, err := l.start(ctx, "shardcast-client", args...)
	if err != nil {
		return err
	}
	if err := l.killAt(p, m, "msg=downloaded"); err != nil {
		return err
	}
	// It may have been killed with the file in place, and nothing said.
	if _, err := os.Stat(out); err == nil {
		return cmp.Or(l.compare(out), errEarly)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if p, err = l.start(ctx, "shardcast-client", args...); err != nil {
		return err
	}
	defer p.Kill()
	if _, err := p.Await("msg=downloaded"); err != nil {
		return err
	}
	if _, err := p.Wait(); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err == nil && names != nil {
		err = fmt.Errorf("left behind: %v", names)
	}
	return cmp.Or(err, l.compare(out))
}

// middle is a round with a middle.
func (l *loop) middle(ctx context.Context, m moment) error {
	dir := l.path("middle")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	args := append(l.fetching("--upstream"), "--data-dir", dir, "--check-interval", "0.2", "--host", "127.0.0.1", "--port", "0")
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
	return l.compare(shards...)
}

// compare returns an error unless names hold what was published, one after the
// other.
func (l *loop) compare(names ...string) error {
	want, err := os.Open(l.path("file.bin"))
	if err != nil {
		return err
	}
	defer want.Close()
	var all []io.Reader
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		all = append(all, f)
	}
	got := io.MultiReader(all...)
	a, b := make([]byte, copyBuffer), make([]byte, copyBuffer)
	for {
		n, _ := io.ReadFull(want, a) // 0 bytes at the end, or when it cannot be read
		k, err := io.ReadFull(got, b)
		switch {
		case n != k || !bytes.Equal(a[:n], b[:n]):
			return fmt.Errorf("%s is not what was published", filepath.Dir(names[0]))
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}
