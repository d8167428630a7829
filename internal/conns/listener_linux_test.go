package conns

import (
	"bufio"
	"fmt"
	"io"
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
	shard := filepath.Join(dir, "shard_001.bin")
	require.NoError(t, os.WriteFile(shard, nil, 0o644))
	require.NoError(t, os.Truncate(shard, size))
	ended := make(chan string, 2)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, shard)
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
