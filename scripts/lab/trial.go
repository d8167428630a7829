package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/flags"
	"github.com/shardcast/shardcast/scripts/internal/process"
)

const (
	// least is the time that each trial has beside several times that of its bytes.
	least = siege + time.Minute

	// glance is the time between two looks at the counters of a link.
	glance = 20 * time.Millisecond
)

// A node is one of a trial that has been started.
type node struct {
	process *process.Process
	began   time.Time // its own clock

	// held waits until the node holds the verified file, and returns the time of that. It
	// is nil for a node that never does.
	held func() (time.Time, error)

	// output is the file of the node, if it makes one.
	output string
}

// A trial is one run of a system in a scenario.
type trial struct {
	lab *lab

	dir       string
	stock     string // data directory of origins
	shardSize flags.Bytes
	digest    shard.Digest // of the file that nodes hold in the end
	system    system
	plan      plan
	net       *network
	nodes     []*node // by their numbers in the plan; nil before their start
	times     []time.Duration
	abort     context.CancelFunc // ends all that runs
	begun     time.Time          // the clock of all
	joined    time.Duration      // from begun to the start of the last late node
}

// trial runs a system on a network of its own.
func (l *lab) trial(ctx context.Context, s system, v variant) (sample Sample, err error) {
	p := v.plan
	ctx, cancel := context.WithTimeoutCause(ctx, l.patience(p), errors.New("it takes too long"))
	defer cancel()
	t := &trial{
		lab: l, system: s, plan: p, dir: filepath.Join(l.dir, "trial"), shardSize: l.shardSize,
		digest: l.file.Digest,
		nodes:  make([]*node, len(p)), times: make([]time.Duration, len(p)),
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.dir)) }()
	if err := t.stockUp(ctx, v.scenario); err != nil {
		return sample, err
	}
	if t.net, err = l.network(ctx, p); err != nil {
		return sample, err
	}
	run := t.bring
	if v.scenario.run != nil {
		run = func(ctx context.Context) (Sample, error) { return v.scenario.run(ctx, t) }
	}
	sample, err = t.run(ctx, run)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	cancel()
	for _, n := range t.nodes {
		if n != nil {
			n.process.Kill()
		}
	}
	if err := errors.Join(err, t.net.close(ctx)); err != nil {
		return sample, err
	}
	return sample, t.check()
}

// patience is the time that a trial has: several times as long as the slowest link
// needs for all bytes.
func (l *lab) patience(p plan) time.Duration {
	slowest := p[0].up
	for _, s := range p {
		slowest = min(slowest, s.down)
	}
	seconds := float64(l.size) * (float64(len(p))/p[0].up.bytesPerSecond() + 1/slowest.bytesPerSecond())
	return least + 4*time.Duration(seconds*float64(time.Second))
}

// run starts the origin and has run do all else. Nothing of run goes on afterwards.
func (t *trial) run(ctx context.Context, run func(context.Context) (Sample, error)) (sample Sample, err error) {
	ctx, t.abort = context.WithCancel(ctx)
	defer t.abort()
	if err := t.start(ctx, 0); err != nil {
		return sample, err
	}
	return run(ctx)
}

// bring starts the clock and all nodes that are not late, and waits until all nodes hold
// the file.
func (t *trial) bring(ctx context.Context) (Sample, error) {
	return t.measure(ctx, t.startOthers, func(context.Context) error { return nil })
}

// startOthers starts all nodes but late ones and those that run already.
func (t *trial) startOthers(ctx context.Context) error {
	for i, s := range t.plan {
		if t.nodes[i] == nil && s.fate != late {
			if err := t.start(ctx, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure starts the clock, calls begin, and then beside, meanwhile waiting until all
// nodes hold the file. An error of one ends all others.
func (t *trial) measure(ctx context.Context, begin, beside func(context.Context) error) (sample Sample, err error) {
	_, before, err := counters(t.nodes[0].process)
	if err != nil {
		return sample, err
	}
	busy := processor()
	t.begun = time.Now()
	if err := begin(ctx); err != nil {
		return sample, err
	}
	var group errgroup.Group
	goOn := func(err error) error {
		if err != nil {
			t.abort()
		}
		return err
	}
	group.Go(func() error { return goOn(beside(ctx)) })
	for i := 1; i < len(t.plan); i++ {
		group.Go(func() error {
			err := t.follow(ctx, i)
			if err != nil {
				err = fmt.Errorf("node %d: %w", i, err)
			}
			return goOn(err)
		})
	}
	if err := group.Wait(); err != nil {
		return sample, err
	}
	sample.Idle = processor().idleSince(busy)
	_, after, err := counters(t.nodes[0].process)
	sample.Sent = float64(after-before) / float64(t.lab.size)
	t.sum(&sample)
	return sample, err
}

// start starts a node in a directory of its own.
func (t *trial) start(ctx context.Context, i int) (err error) {
	dir := filepath.Join(t.dir, "node"+strconv.Itoa(i))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	began := time.Now()
	start := t.system.start
	if t.plan[i].fate == lies {
		start = startLiar
	}
	if t.plan[i].attack != "" {
		start = startAttack
	}
	n, err := start(ctx, t, i, dir)
	if err != nil {
		return fmt.Errorf("node %d: %w", i, err)
	}
	n.began = began
	t.nodes[i] = n
	return nil
}

// follow lets a node have its fate, and waits until it holds the file where it wants it.
func (t *trial) follow(ctx context.Context, i int) error {
	switch t.plan[i].fate {
	case killed:
		if err := t.half(ctx, i); err != nil {
			return err
		}
		return t.net.kill(ctx, t.net.namespace(i))
	case late:
		if err := t.half(ctx, 1); err != nil {
			return err
		}
		if err := t.start(ctx, i); err != nil {
			return err
		}
		t.joined = t.nodes[i].began.Sub(t.begun)
	case stays, lies:
	}
	n := t.nodes[i]
	if n.held == nil {
		return nil
	}
	at, err := n.held()
	t.times[i] = at.Sub(n.began)
	return err
}

// half waits until a node has received half of the file.
func (t *trial) half(ctx context.Context, i int) error {
	tick := time.NewTicker(glance)
	defer tick.Stop()
	for {
		received, _, err := counters(t.nodes[i].process)
		if err != nil || received > int64(t.lab.size)/2 {
			return err
		}
		select {
		case <-tick.C:
		case <-t.nodes[i].process.Ended():
			return fmt.Errorf("it ended before it had half of the file: %s", t.nodes[i].process.Log())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// sum computes the figures of a sample from the nodes' times. The link of a late node
// bounds its time, which counts from its own start.
func (t *trial) sum(s *Sample) {
	var all, others []time.Duration
	bound, last := t.plan.bound(t.lab.size, true), time.Duration(0)
	for i, spec := range t.plan {
		if !spec.wants() || t.nodes[i].held == nil {
			continue
		}
		all = append(all, t.times[i])
		if spec.role == middle {
			s.Peak = max(s.Peak, t.nodes[i].peak())
		}
		if !spec.odd {
			others = append(others, t.times[i])
		}
		last = max(last, t.nodes[i].began.Add(t.times[i]).Sub(t.begun))
		if spec.fate == late {
			seconds := float64(t.lab.size) / spec.down.bytesPerSecond()
			bound = max(bound, t.joined+time.Duration(seconds*float64(time.Second)))
		}
	}
	if len(others) == 0 {
		others = all
	}
	s.All, s.Bound = last.Seconds(), bound.Seconds()
	s.Median, s.Slowest = median(all).Seconds(), slices.Max(all).Seconds()
	s.Others = t.plan.bound(t.lab.size, false).Seconds() / median(others).Seconds()
	s.Nodes = len(all)
}

// median is the one in the middle, or the greater of the two there.
func median(values []time.Duration) time.Duration {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// peak is the peak resident memory in MiB of a node that runs.
func (n *node) peak() float64 {
	if n.process == nil {
		return 0
	}
	return n.process.Peak()
}

// check compares the files of all nodes with the one of the origin.
func (t *trial) check() error {
	var group errgroup.Group
	group.SetLimit(2)
	for i, n := range t.nodes {
		if n == nil || n.output == "" || !t.plan[i].wants() {
			continue
		}
		group.Go(func() error {
			digest, err := file.Digest(n.output)
			if err == nil && digest != t.digest {
				err = fmt.Errorf("the file of node %d is not the one that was sent", i)
			}
			return err
		})
	}
	return group.Wait()
}
