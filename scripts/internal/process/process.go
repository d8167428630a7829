// Package process runs commands for the programs in scripts: each with all that it
// has written, when it ended and how. It knows nothing of what they do.
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
	"strings"
	"sync"
	"time"
)

// A Process is a command that runs, with all that it writes.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	at    time.Time // when it ended, once it has
	err   error     // how, once it has

	mu  sync.Mutex // guards log
	log bytes.Buffer
}

// Start starts the command called name, which is killed when ctx ends. What the
// environment says to shardcast's commands is kept from it.
func Start(ctx context.Context, name string, args ...string) (*Process, error) {
	p := &Process{ended: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, name, args...)
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool {
		return strings.HasPrefix(s, "SHARDCAST_") || strings.HasPrefix(s, "IP_ADDR_LIST=")
	})
	p.cmd.Stdout, p.cmd.Stderr = p, p
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

// Write keeps what the process writes.
func (p *Process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(text)
}

// ID is the number by which the system knows it.
func (p *Process) ID() int { return p.cmd.Process.Pid }

// Ended is closed when it has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Kill ends p at once, if it has not ended yet.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Wait waits for the end of p, and returns when that was. The error has what p has
// written.
func (p *Process) Wait() (time.Time, error) {
	<-p.ended
	if p.err != nil {
		return p.at, p.failed(p.err)
	}
	return p.at, nil
}

// Logged reports whether p has written text.
func (p *Process) Logged(text string) bool { return strings.Contains(p.Log(), text) }

// Log is what p has written so far.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// Await waits until what p has written matches pattern, and returns what the first
// group of it does, or all of it if there is no group. The error has what p has
// written.
func (p *Process) Await(pattern string) (string, error) {
	re := regexp.MustCompile(pattern)
	tick := time.NewTicker(5 * time.Millisecond)
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
			return "", p.failed(fmt.Errorf("it has ended without %s", pattern))
		}
	}
}

// find returns what the first group of pattern matches, or all of it if there is no
// group, and whether it matches at all.
func (p *Process) find(pattern *regexp.Regexp) (string, bool) {
	found := pattern.FindStringSubmatch(p.Log())
	if found == nil {
		return "", false
	}
	return found[len(found)-1], true
}

// failed is err with what p has written.
func (p *Process) failed(err error) error {
	return fmt.Errorf("%s: %w; its log:\n%s", filepath.Base(p.cmd.Path), err, p.Log())
}
