//go:build unix

package cli_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/cli"
)

// manager is a service manager, as far as it is told something.
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

// supervise supervises the server at addr until stop is called.
func supervise(t *testing.T, addr net.Addr) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cli.Supervise(ctx, addr, slog.New(slog.DiscardHandler))
	}()
	return func() {
		cancel()
		<-ended
	}
}

func TestTheServiceManagerIsToldWhatTheServerDoes(t *testing.T) {
	next := manager(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	stop := supervise(t, server.Listener.Addr())
	assert.Equal(t, "STATUS=Starting", next())
	server.Start() // until then it listens, and does not answer
	assert.Equal(t, "READY=1", next())
	assert.Equal(t, "WATCHDOG=1", next())
	assert.Equal(t, "WATCHDOG=1", next())
	stop()
	server.Close()
	said := next()
	for said == "WATCHDOG=1" {
		said = next()
	}
	assert.Equal(t, "STOPPING=1", said)
}

func TestWithoutAWatchdogTheServiceManagerIsToldThatItIsReady(t *testing.T) {
	next := manager(t)
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	stop := supervise(t, server.Listener.Addr())
	assert.Equal(t, "STATUS=Starting", next())
	assert.Equal(t, "READY=1", next())
	stop()
	assert.Equal(t, "STOPPING=1", next())
}

func TestWithoutAServiceManagerNothingIsSaid(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	cli.Supervise(t.Context(), &net.TCPAddr{}, slog.New(slog.DiscardHandler)) // returns
}
