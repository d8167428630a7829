// Package process runs commands for the programs in scripts, and has the output, the end
// and the cost of each. It knows nothing of their purpose.
package process

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Process is a command that runs, with its output. Where the system has process groups
// it is in its own.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	start time.Time
	at    time.Time // when it ended, once it has
	err   error     // how, once it has

	mu  sync.Mutex // guards log
	log bytes.Buffer
}

// Start starts the command called name. The end of ctx kills it with all that it has
// started. It does not get the variables of shardcast's commands.
func Start(ctx context.Context, name string, args ...string) (*Process, error) {
	return StartIn(ctx, "", nil, name, args...)
}

// StartIn is [Start] in the directory dir, with env besides the environment.
func StartIn(ctx context.Context, dir string, env []string, name string, args ...string) (*Process, error) {
	p := &Process{ended: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, name, args...)
	p.cmd.Dir = dir
	p.cmd.Env = append(slices.DeleteFunc(os.Environ(), func(s string) bool {
		return strings.HasPrefix(s, "SHARDCAST_") || strings.HasPrefix(s, "IP_ADDR_LIST=")
	}), env...)
	group(p.cmd)
	p.cmd.WaitDelay = time.Second
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.start = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		p.at = time.Now()
		close(p.ended)
	}()
	return p, nil
}

// Program is the path of a program, also where only the path of an administrator has it.
func Program(name string) (string, error) {
	for _, dir := range []string{"", "/usr/sbin/", "/usr/local/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

// Write keeps the output of the process.
func (p *Process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(text)
}

// ID is its number in the system.
func (p *Process) ID() int { return p.cmd.Process.Pid }

// Ended is closed when it has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Kill ends p and all that it has started at once, if p has not ended yet.
func (p *Process) Kill() {
	select {
	case <-p.ended: // its number may be another's by now
	default:
		_ = p.cmd.Cancel()
		<-p.ended
	}
}

// Wait waits for the end of p, and returns the time of that. The error has the output.
func (p *Process) Wait() (time.Time, error) {
	<-p.ended
	if p.err != nil {
		return p.at, p.Failed(p.err)
	}
	return p.at, nil
}

// Took waits for the end of p, and returns its time, and the CPU time of p and of the
// processes that it waited for.
func (p *Process) Took() (wall, cpu time.Duration) {
	<-p.ended
	return p.at.Sub(p.start), p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// Logged reports whether p has written text.
func (p *Process) Logged(text string) bool { return strings.Contains(p.Log(), text) }

// Log is the output so far.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// Await waits until the output matches pattern, and returns the match of its last group,
// or of all of it if there is no group. The error has the output.
func (p *Process) Await(pattern string) (string, error) {
	re := regexp.MustCompile(pattern)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if found, ok := p.find(re); ok {
			return found, nil
		}
		select {
		case <-tick.C:
		case <-p.ended:
			if found, ok := p.find(re); ok {
				return found, nil
			}
			return "", p.Failed(fmt.Errorf("it has ended without %s", pattern))
		}
	}
}

// find returns the match that [Process.Await] waits for, and whether there is one.
func (p *Process) find(pattern *regexp.Regexp) (string, bool) {
	found := pattern.FindStringSubmatch(p.Log())
	if found == nil {
		return "", false
	}
	return found[len(found)-1], true
}

// Failed is err with the output.
func (p *Process) Failed(err error) error {
	return fmt.Errorf("%s: %w; its log:\n%s", filepath.Base(p.cmd.Path), err, p.Log())
}

// Tree is pid with all that it has started and that still runs, and elsewhere than on
// Linux pid alone.
func Tree(pid int) []int {
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

// Peak is the peak resident memory in MiB of the largest process of p's [Tree], or 0 where
// the system has no figure.
func (p *Process) Peak() (most float64) {
	for _, id := range Tree(p.ID()) {
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
