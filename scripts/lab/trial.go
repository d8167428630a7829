package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/process"
)

const (
	// least is how long a trial may take, beside several times what it should.
	least = time.Minute

	// glance is how often the counters of a link are looked at.
	glance = 20 * time.Millisecond
)

// A node is one of a trial that has been started.
type node struct {
	*process.Process

	began time.Time

	// held waits until the node holds the verified file, and returns when that was. It
	// is nil if the node is not one that does.
	held func() (time.Time, error)

	// output is the file of the node, if it makes one.
	output string
}

// A trial is one run of a system on a plan.
type trial struct {
	*lab

	dir    string
	system system
	plan   plan
	net    *network
	nodes  []*node // by their numbers in the plan; nil if it has not been started
	times  []time.Duration
	begun  time.Time
	joined time.Duration // when the last of those that are late was started
}

// trial runs a system on a network of its own.
func (l *lab) trial(ctx context.Context, s system, p plan) (sample Sample, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.patience(p), errors.New("it takes too long"))
	defer cancel()
	t := &trial{
		lab: l, system: s, plan: p, dir: filepath.Join(l.dir, "trial"),
		nodes: make([]*node, len(p)), times: make([]time.Duration, len(p)),
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.dir)) }()
	if t.net, err = l.network(ctx, p); err != nil {
		return sample, err
	}
	sample, err = t.run(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	cancel()
	for _, n := range t.nodes {
		if n != nil {
			n.Kill()
		}
	}
	if err := errors.Join(err, t.net.close(ctx)); err != nil {
		return sample, err
	}
	return sample, t.check()
}

// patience is how long a trial may take: several times as long as the slowest link
// needs for all.
func (l *lab) patience(p plan) time.Duration {
	slowest := p[0].up
	for _, s := range p {
		slowest = min(slowest, s.down)
	}
	seconds := float64(l.size) * (float64(len(p))/p[0].up.bytesPerSecond() + 1/slowest.bytesPerSecond())
	return least + 4*time.Duration(seconds*float64(time.Second))
}

// run starts all nodes and waits for them.
func (t *trial) run(ctx context.Context) (sample Sample, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := t.start(ctx, 0); err != nil {
		return sample, err
	}
	_, before, err := counters(t.nodes[0].Process)
	if err != nil {
		return sample, err
	}
	busy := processor()
	t.begun = time.Now()
	for i, s := range t.plan {
		if i > 0 && s.fate != late {
			if err := t.start(ctx, i); err != nil {
				return sample, err
			}
		}
	}
	var group errgroup.Group
	for i := 1; i < len(t.plan); i++ {
		group.Go(func() error {
			err := t.follow(ctx, i)
			if err != nil {
				cancel() // the others need not go on
				return fmt.Errorf("node %d: %w", i, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return sample, err
	}
	sample.Idle = processor().idleSince(busy)
	_, after, err := counters(t.nodes[0].Process)
	sample.Sent = float64(after-before) / float64(t.size)
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
	n, err := start(ctx, t, i, dir)
	if err != nil {
		return fmt.Errorf("node %d: %w", i, err)
	}
	n.began = began
	t.nodes[i] = n
	return nil
}

// follow lets a node have its fate, and waits until it holds the file if it is to.
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
		received, _, err := counters(t.nodes[i].Process)
		if err != nil || received > int64(t.size)/2 {
			return err
		}
		select {
		case <-tick.C:
		case <-t.nodes[i].Ended():
			return fmt.Errorf("it ended before it had half of the file: %s", t.nodes[i].Log())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// sum computes from the nodes' times what is reported. One that is started late cannot
// be done before its own link allows; its time is from its own start.
func (t *trial) sum(s *Sample) {
	var all, others []time.Duration
	bound, last := t.plan.bound(t.size, true), time.Duration(0)
	for i, spec := range t.plan {
		if !spec.wants() || t.nodes[i].held == nil {
			continue
		}
		all = append(all, t.times[i])
		if !spec.odd {
			others = append(others, t.times[i])
		}
		last = max(last, t.nodes[i].began.Add(t.times[i]).Sub(t.begun))
		if spec.fate == late {
			bound = max(bound, t.joined+time.Duration(float64(t.size)/spec.down.bytesPerSecond()*float64(time.Second)))
		}
	}
	if len(others) == 0 {
		others = all
	}
	s.All, s.Bound = last.Seconds(), bound.Seconds()
	s.Median, s.Slowest = median(all).Seconds(), slices.Max(all).Seconds()
	s.Others = t.plan.bound(t.size, false).Seconds() / median(others).Seconds()
	s.Nodes = len(all)
}

// median is the one in the middle, or the greater of the two there.
func median[T cmp.Ordered](values []T) T {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// check compares the files that all nodes have made with the one that was sent.
func (t *trial) check() error {
	var group errgroup.Group
	group.SetLimit(2)
	for i, n := range t.nodes {
		if n == nil || n.output == "" || !t.plan[i].wants() {
			continue
		}
		group.Go(func() error {
			digest, err := file.Digest(n.output)
			if err == nil && digest != t.file.Digest {
				err = fmt.Errorf("the file of node %d is not the one that was sent", i)
			}
			return err
		})
	}
	return group.Wait()
}
