// Package hook runs a command for a version, such as that of follow's --exec, in a process
// group of its own. It refuses to know what a version is, and which one is next.
//
// A hook is over when none of its processes is left but those that it wanted to outlive it:
// while the command runs, they all hold the lock that it inherits as descriptor 3. So a hook
// that outlives a killed follow is not run beside itself.
package hook

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	// grace is the time that a hook has to end after SIGTERM, before SIGKILL.
	grace = 10 * time.Second

	// poll is the time between two looks at the lock.
	poll = 50 * time.Millisecond
)

// Hook is a command.
type Hook struct {
	// Command is for sh -c. Its output goes to stderr.
	Command string

	// Timeout is the longest time that it may run. Zero means no limit.
	Timeout time.Duration

	// Lock is the name of the file that the hook's processes lock.
	Lock string

	// Logger is told of waiting for an earlier hook.
	Logger *slog.Logger

	grace time.Duration // zero means the constant
}

// errTimeout is the error for a hook that ran for too long.
var errTimeout = errors.New("it was ended by its timeout")

// Run waits until an earlier hook with the same lock is over, and runs this one with env in
// its environment. When ctx ends, or the time is over, all processes of the hook get SIGTERM,
// and after 10 seconds SIGKILL. Run then returns the cause.
func (h Hook) Run(ctx context.Context, env ...string) error {
	lock, err := h.claim(ctx)
	if err != nil {
		return err
	}
	if h.Timeout > 0 {
		limited, cancel := context.WithTimeoutCause(ctx, h.Timeout, errTimeout)
		defer cancel()
		ctx = limited
	}
	command := exec.Command("sh", "-c", h.Command) //nolint:noctx // the whole group is ended below
	command.Env = append(Environment(os.Environ()), env...)
	command.Stdout, command.Stderr = os.Stderr, os.Stderr // stdout is for results only
	group(command, lock)
	err = command.Start()
	_ = lock.Close() // now the hook's processes alone hold it
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	select {
	case err = <-ended:
		// Processes that it has started for longer keep a lock that has no name.
		if gone := os.Remove(h.Lock); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		return err
	case <-ctx.Done():
		h.end(command.Process, ended)
		return context.Cause(ctx)
	}
}

// end ends the group of leader, and waits for it. The leader's end comes from ended.
func (h Hook) end(leader *os.Process, ended <-chan error) {
	terminate(leader)
	timer := time.NewTimer(cmp.Or(h.grace, grace))
	defer timer.Stop()
	killed := false
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		select {
		case <-ended: //nolint:errcheck // the exit code of a hook that was ended says nothing
			ended = nil
		case <-tick.C:
		case <-timer.C:
			if killed { // what is left has left the group
				return
			}
			killed = true
			kill(leader)
			timer.Reset(time.Second)
		}
		if ended == nil && h.isOver() {
			return
		}
	}
}

// claim waits until an earlier hook is over, and returns the locked file.
func (h Hook) claim(ctx context.Context) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(h.Lock), 0o755); err != nil {
		return nil, err
	}
	for waited := false; ; waited = true {
		lock, err := openLocked(h.Lock)
		if lock != nil || err != nil {
			return lock, err
		}
		if !waited {
			h.Logger.Warn("earlier command is still running, waiting for its end", "lock", h.Lock,
				"hint", "a process that is to outlive its command has to close descriptor 3 (3>&-)")
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(poll):
		}
	}
}

// isOver reports whether no process holds the lock.
func (h Hook) isOver() bool {
	lock, err := openLocked(h.Lock)
	if lock != nil {
		_ = lock.Close()
	}
	return lock != nil || err != nil
}

// Environment returns env without shardcast's own settings, which may hold passwords of
// servers, and which a hook that runs shardcast would otherwise take for its own. Those of the whole
// machine stay, such as HTTP_PROXY, which a hook needs to reach the network.
func Environment(env []string) []string {
	var left []string
	for _, setting := range env {
		if !strings.HasPrefix(setting, "SHARDCAST_") && !strings.HasPrefix(setting, "IP_ADDR_LIST=") {
			left = append(left, setting)
		}
	}
	return left
}
