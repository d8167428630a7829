//go:build unix

package cli_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/cli"
)

// manager makes a service manager's notify socket, and returns a function that waits for
// the next report there and returns its first line.
func manager(t *testing.T) (next func() string) {
	t.Helper()
	const socket = "notify" // a path from the root on may be too long for a socket
	t.Chdir(t.TempDir())
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close()) })
	t.Setenv("NOTIFY_SOCKET", socket)
	return func() string {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		b := make([]byte, 1000)
		n, err := conn.Read(b)
		require.NoError(t, err)
		first, _, _ := strings.Cut(string(b[:n]), "\n")
		return first
	}
}

// silent is a server that listens and never answers, as a middle may be before it is ready.
type silent struct{ fails error }

func (s silent) Listen() (net.Listener, error) {
	return net.Listen("tcp", "127.0.0.1:0")
}

func (s silent) Serve(ctx context.Context, ln net.Listener) error {
	if s.fails == nil {
		<-ctx.Done()
	}
	_ = ln.Close()
	return s.fails
}

func (s silent) Reload() {}

// serve serves until stop is called.
func serve(t *testing.T, server cli.Server) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- cli.Serve(ctx, server, nil, slog.New(slog.DiscardHandler)) }()
	return func() error {
		cancel()
		return <-ended
	}
}

func TestAServerThatAnswersNothingYetIsNotKilledByTheWatchdog(t *testing.T) {
	next := manager(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	stop := serve(t, silent{})
	assert.Equal(t, "READY=1", next())
	for range 5 {
		assert.Equal(t, "WATCHDOG=1", next())
	}
	require.NoError(t, stop())
	last := next()
	for last == "WATCHDOG=1" {
		last = next()
	}
	assert.Equal(t, "STOPPING=1", last)
}

func TestAServerWithoutAWatchdogReportsItsBeginningAndItsEnd(t *testing.T) {
	next := manager(t)
	stop := serve(t, silent{})
	assert.Equal(t, "READY=1", next())
	require.NoError(t, stop())
	assert.Equal(t, "STOPPING=1", next())
}

func TestTheWatchdogOfAnotherProcessIsNotAnswered(t *testing.T) {
	next := manager(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", "1")
	stop := serve(t, silent{})
	assert.Equal(t, "READY=1", next())
	time.Sleep(100 * time.Millisecond)
	require.NoError(t, stop())
	assert.Equal(t, "STOPPING=1", next())
}

func TestAServerThatFailsReportsItsEnd(t *testing.T) {
	next := manager(t)
	stop := serve(t, silent{fails: os.ErrPermission})
	assert.Equal(t, "READY=1", next())
	assert.Equal(t, "STOPPING=1", next())
	require.ErrorIs(t, stop(), os.ErrPermission)
}

func TestAServerWithoutAServiceManagerServes(t *testing.T) {
	for name, socket := range map[string]string{"none": "", "gone": "missing/notify"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", socket)
			require.NoError(t, serve(t, silent{})())
		})
	}
}

func TestServersRefuseSocketsAndOutliveHangups(t *testing.T) {
	ours := fmt.Sprint(os.Getpid())
	for name, tc := range map[string]struct{ fds, pid, names, want string }{
		"no socket":         {},
		"another process's": {fds: "1", pid: "1", names: "a.socket"},
		"no process's":      {fds: "1", names: "a.socket"},
		"of our unit": {
			fds: "1", pid: ours, names: "shardcast-origin.socket",
			want: "shardcast-origin.socket",
		},
		"of an operator's unit": {fds: "2", pid: ours, names: "weights.socket:other", want: "weights.socket"},
		"with a name":           {fds: "1", pid: ours, names: "web", want: "shardcast-origin.socket"},
		"without a name":        {fds: "1", pid: ours, want: "shardcast-origin.socket"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("LISTEN_FDS", tc.fds)
			t.Setenv("LISTEN_PID", tc.pid)
			t.Setenv("LISTEN_FDNAMES", tc.names)
			err := cli.BecomeServer("shardcast-origin")
			if tc.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "run systemctl disable --now "+tc.want)
			}
		})
	}
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP)) // would end this process
}
