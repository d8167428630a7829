package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"time"
)

// process is a command that runs, with all that it writes.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // how, once it has

	mu  sync.Mutex // guards log
	log bytes.Buffer
}

// start starts a command, which is killed when ctx ends.
func (l *loop) start(ctx context.Context, name string, args ...string) (*process, error) {
	p := &process{ended: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, filepath.Join(l.bin, name), args...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
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

// kill ends p at once, if it has not ended yet.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// wait waits for the end of p.
func (p *process) wait() error {
	<-p.ended
	if p.err != nil {
		return p.failed(p.err)
	}
	return nil
}

// find returns what the first group of pattern matches in the log, or all of it if
// there is no group, and whether it matches at all.
func (p *process) find(pattern *regexp.Regexp) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := pattern.FindSubmatch(p.log.Bytes())
	if found == nil {
		return "", false
	}
	return string(found[len(found)-1]), true
}

// logged reports whether the log has text.
func (p *process) logged(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Contains(p.log.Bytes(), []byte(text))
}

// await waits until the log matches, and returns what [process.find] does.
func (p *process) await(pattern string) (string, error) {
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

// failed is err with what p has written.
func (p *process) failed(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Errorf("%s: %w; its log:\n%s", filepath.Base(p.cmd.Path), err, p.log.String())
}
