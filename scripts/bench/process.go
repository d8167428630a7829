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
	// patience is the time that a command has besides that of its bytes, and slowest in
	// bytes per second bounds the latter.
	patience = 2 * time.Minute
	slowest  = 10_000_000

	// look is the time between two looks at the memory of a running command. Memory that
	// it takes in less than that before its end stays unseen.
	look = 10 * time.Millisecond
)

// peak waits for the end of p, and returns the peak resident memory in MiB of the
// largest process of it. The figure of wait4 is no use: it includes the memory of the
// process that forked.
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

// bounded is ctx with an end that only a hanging command reaches that moves size bytes.
func bounded(ctx context.Context, size int64) (context.Context, context.CancelFunc) {
	limit := patience + time.Duration(size/slowest)*time.Second
	return context.WithTimeoutCause(ctx, limit, errors.New("a command takes too long"))
}

// measured runs a command to its end, and returns its cost and its output.
func measured(
	ctx context.Context, size int64, dir string, env []string, name string, args ...string,
) (Sample, string, error) {
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

// cpuClock makes the clock of a process's CPU time out of its number, like
// clock_getcpuclockid(3). Unlike /proc/PID/stat, whose unit is 10 ms, it is exact.
func cpuClock(pid int) int32 { return int32(^pid<<3 | 2) }

// cpu is the CPU time in seconds of a running process, and of those that it has started
// and that still run.
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
