package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

func TestOnlyReadersThatReadNothingAreBrokenOff(t *testing.T) {
	t.Parallel()
	const (
		timeout  = time.Second
		size     = 64 << 20 // more than the sockets take on their own
		slow     = 100 << 10
		interval = 100 * time.Millisecond
		patience = 10 * time.Second
	)
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "v1"), 0o755))
	shard := filepath.Join(dir, "v1", "shard_001.bin")
	require.NoError(t, os.WriteFile(shard, nil, 0o644))
	require.NoError(t, os.Truncate(shard, size))
	st, err := store.Open(dir, store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })

	ended := make(chan string, 2)
	files := NewHandler(Options{Catalog: catalog.New(st, nil), Limits: Limits{}, Logger: slog.New(slog.DiscardHandler)})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		files.ServeHTTP(w, r)
		ended <- r.URL.RawQuery
	}))
	srv.Listener = listener{srv.Listener, timeout}
	srv.Start()
	t.Cleanup(srv.Close) // after the connections, or it would wait for them

	ask := func(reader string) io.Reader {
		conn, err := net.DialTimeout("tcp", srv.Listener.Addr().String(), patience)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		tcp, ok := conn.(*net.TCPConn)
		require.True(t, ok)
		require.NoError(t, tcp.SetReadBuffer(slow/2))
		_, err = fmt.Fprintf(conn, "GET /v1/shard_001.bin?%s HTTP/1.1\r\nHost: localhost\r\n\r\n", reader)
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		t.Cleanup(func() { _ = resp.Body.Close() })
		require.EqualValues(t, size, resp.ContentLength)
		return resp.Body
	}
	stalled, reading := ask("stalled"), ask("reading")

	var got int64
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	enough := time.After(5 * timeout / 2)
	late := time.After(patience)
	for brokenOff := false; enough != nil || !brokenOff; {
		select {
		case <-ticker.C:
			n, err := io.CopyN(io.Discard, reading, slow)
			require.NoError(t, err, "a slow reader is not broken off")
			got += n
		case reader := <-ended:
			require.Equal(t, "stalled", reader)
			brokenOff = true
		case <-enough:
			enough = nil
		case <-late:
			require.FailNow(t, "a reader that reads nothing is not broken off")
		}
	}
	rest, err := io.Copy(io.Discard, reading)
	require.NoError(t, err)
	assert.EqualValues(t, size, got+rest)
	n, err := io.Copy(io.Discard, stalled)
	require.Error(t, err, "what was cut short must not look whole")
	assert.Less(t, n, int64(size))
}

// A waiter that has gone without a word, its machine or its network, is found by
// nothing else.
func TestConnectionsAreKeptAlive(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	peer, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer func() { _ = peer.Close() }()
	conn, err := listener{ln, stallTimeout}.Accept()
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	tcp, ok := conn.(*net.TCPConn)
	require.True(t, ok)
	raw, err := tcp.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		for option, most := range map[int]int{unix.TCP_KEEPIDLE: 60, unix.TCP_KEEPINTVL: 60} {
			seconds, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option)
			require.NoError(t, err)
			assert.LessOrEqual(t, seconds, most)
		}
		on, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		require.NoError(t, err)
		assert.Equal(t, 1, on)
	}))
}

// What is written for a node of a swarm, or to one of a crowd, is all but sent, however much
// the kernel might hold.
func TestTheKernelHoldsLittleForNodesOfASwarmAndInACrowd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "v1"), 0o755))
	name := filepath.Join(dir, "v1", "shard_001.bin")
	require.NoError(t, os.WriteFile(name, nil, 0o644))
	require.NoError(t, os.Truncate(name, 64<<20))
	st, err := store.Open(dir, store.Origin)
	require.NoError(t, err)
	defer func() { _ = st.Close() }()
	members := swarm.NewMembers(swarm.MembersOptions{Logger: slog.New(slog.DiscardHandler)})
	defer members.Close()
	srv := newServer(NewHandler(Options{
		Catalog: catalog.New(st, nil), Members: members, Logger: slog.New(slog.DiscardHandler),
	}), Options{Logger: slog.New(slog.DiscardHandler)}).http
	conns := make(chan net.Conn, 1)
	remember := srv.ConnContext
	srv.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		conns <- conn
		return remember(ctx, conn)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = srv.Serve(listener{ln, time.Minute}) }()
	defer func() { _ = srv.Close() }()
	ask := func(as string) (unsent int) {
		t.Helper()
		reader, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = reader.Close() })
		conn, ok := (<-conns).(*net.TCPConn)
		require.True(t, ok)
		_, err = fmt.Fprintf(reader, "GET /v1/shard_001.bin HTTP/1.1\r\nHost: localhost\r\n%s: %s\r\n\r\n",
			wire.SwarmHeader, as)
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(reader), nil)
		require.NoError(t, err)
		t.Cleanup(func() { _ = resp.Body.Close() })
		raw, err := conn.SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) {
			unsent, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
		}))
		require.NoError(t, err)
		return unsent
	}
	assert.Equal(t, maxUnsent, ask(swarm.AsPeer))
	assert.Equal(t, maxUnsent, ask(swarm.AsSpare))
	for range crowd - 2 {
		assert.NotEqual(t, maxUnsent, ask(""), "they are few")
	}
	assert.Equal(t, maxUnsent, ask(""), "they are many")
}
