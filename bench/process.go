package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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

// A process is a command that runs, in a process group of its own, with all that it
// writes.
type process struct {
	cmd   *exec.Cmd
	start time.Time
	wall  time.Duration // once it has ended
	ended chan struct{}
	err   error // how, once it has

	mu  sync.Mutex // guards log
	log bytes.Buffer
}

// start starts a command in dir, which is killed with all of its group when ctx ends.
// What the environment says to shardcast's commands is kept from it.
func start(ctx context.Context, dir string, env []string, name string, args ...string) (*process, error) {
	p := &process{ended: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, name, args...)
	p.cmd.Dir = dir
	p.cmd.Env = append(slices.DeleteFunc(os.Environ(), func(s string) bool {
		return strings.HasPrefix(s, "SHARDCAST_") || strings.HasPrefix(s, "IP_ADDR_LIST=")
	}), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Cancel = func() error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }
	p.cmd.WaitDelay = time.Second
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.start = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		p.wall = time.Since(p.start)
		close(p.ended)
	}()
	return p, nil
}

// Write keeps what the process writes.
func (p *process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(text)
}

// text is what p has written so far.
func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// kill ends p and all that it has started, and waits for it.
func (p *process) kill() {
	select {
	case <-p.ended: // its number may be another's by now
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.ended
	}
}

// await waits until what p has written matches pattern, and returns what the last
// group of it does.
func (p *process) await(pattern *regexp.Regexp) (string, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if found := pattern.FindStringSubmatch(p.text()); found != nil {
			return found[len(found)-1], nil
		}
		select {
		case <-tick.C:
		case <-p.ended:
			return "", p.failed(fmt.Errorf("it has ended without %s", pattern))
		}
	}
}

// failed is err with what p has written.
func (p *process) failed(err error) error {
	return fmt.Errorf("%s: %w; its log:\n%s", filepath.Base(p.cmd.Path), err, p.text())
}

// peak waits for the end of p, and returns the peak resident memory in MiB of the
// largest process of it. What wait4 says of that is no use: a process is said to have
// had what the one that forked it had.
func (p *process) peak() (most float64) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		most = max(most, peak(p.cmd.Process.Pid))
		select {
		case <-tick.C:
		case <-p.ended:
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
	p, err := start(ctx, dir, env, name, args...)
	if err != nil {
		return nil, "", err
	}
	most := p.peak()
	if p.err != nil {
		return nil, "", p.failed(errors.Join(p.err, context.Cause(ctx)))
	}
	s := Sample{
		Wall: p.wall.Seconds(),
		CPU:  (p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()).Seconds(),
	}
	if most > 0 {
		s[Peak] = most
	}
	return s.add(size), p.text(), nil
}

// tree is pid with all that it has started and that still runs.
func tree(pid int) []int {
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		for _, task := range tasks {
			text, err := os.ReadFile(task)
			if err != nil {
				continue // it has ended
			}
			for field := range strings.FieldsSeq(string(text)) {
				if child, err := strconv.Atoi(field); err == nil {
					all = append(all, child)
				}
			}
		}
	}
	return all
}

// peak is the peak resident memory in MiB of the largest of a running process and all
// that it has started, or 0.
func peak(pid int) (most float64) {
	for _, id := range tree(pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", id))
		if err != nil {
			continue
		}
		_, after, found := strings.Cut(string(text), "\nVmHWM:")
		if fields := strings.Fields(after); found && len(fields) > 0 {
			kib, _ := strconv.ParseFloat(fields[0], 64)
			most = max(most, kib/1024)
		}
	}
	return most
}

// cpuClock is what makes a clock of a process's CPU time out of its number, which is
// how clock_getcpuclockid(3) does it. Unlike /proc/PID/stat, whose unit is 10 ms, it
// is exact.
func cpuClock(pid int) int32 { return int32(^pid<<3 | 2) }

// cpu is how many CPU seconds a running process and all that it has started and that
// still runs have taken.
func cpu(pid int) (seconds float64, err error) {
	for _, id := range tree(pid) {
		var t unix.Timespec
		if err := unix.ClockGettime(cpuClock(id), &t); err != nil {
			return 0, fmt.Errorf("CPU time of process %d: %w", id, err)
		}
		seconds += time.Duration(t.Nano()).Seconds()
	}
	return seconds, nil
}
