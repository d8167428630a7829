//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shardcast/shardcast/scripts/internal/process"
)

const (
	// patience is how long a command may take beside what its bytes do, and
	// slowest in bytes per second is the least that they may.
	patience = 2 * time.Minute
	slowest  = 10_000_000

	// look is how often a running command is asked for its memory. What it takes in
	// less than that before its end is not seen.
	look = 10 * time.Millisecond
)

// peak waits for the end of p, and returns the peak resident memory in MiB of the
// largest process of it. What wait4 says of that is no use: a process is said to have
// had what the one that forked it had.
func peak(p *process.Process) (most float64) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		most = max(most, p.Peak())
		select {
		case <-tick.C:
		case <-p.Ended():
			return most
		}
	}
}

// bounded is ctx with an end that a command which moves size bytes has passed only if
// it hangs.
func bounded(ctx context.Context, size int64) (context.Context, context.CancelFunc) {
	limit := patience + time.Duration(size/slowest)*time.Second
	return context.WithTimeoutCause(ctx, limit, errors.New("a command takes too long"))
}

// measured runs a command to its end, and returns what it took and what it wrote.
func measured(ctx context.Context, size int64, dir string, env []string, name string, args ...string) (Sample, string, error) {
	ctx, cancel := bounded(ctx, size)
	defer cancel()
	p, err := process.StartIn(ctx, dir, env, name, args...)
	if err != nil {
		return nil, "", err
	}
	most := peak(p)
	if _, err := p.Wait(); err != nil {
		return nil, "", errors.Join(err, context.Cause(ctx))
	}
	wall, cpu := p.Took()
	s := Sample{Wall: wall.Seconds(), CPU: cpu.Seconds()}
	if most > 0 {
		s[Peak] = most
	}
	return s.add(size), p.Log(), nil
}

// cpuClock is what makes a clock of a process's CPU time out of its number, which is
// how clock_getcpuclockid(3) does it. Unlike /proc/PID/stat, whose unit is 10 ms, it
// is exact.
func cpuClock(pid int) int32 { return int32(^pid<<3 | 2) }

// cpu is how many CPU seconds a running process and all that it has started and that
// still runs have taken.
func cpu(p *process.Process) (seconds float64, err error) {
	for _, id := range process.Tree(p.ID()) {
		var t unix.Timespec
		if err := unix.ClockGettime(cpuClock(id), &t); err != nil {
			return 0, fmt.Errorf("CPU time of process %d: %w", id, err)
		}
		seconds += time.Duration(t.Nano()).Seconds()
	}
	return seconds, nil
}
