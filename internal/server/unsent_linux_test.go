package server

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/conns"
	"github.com/shardcast/shardcast/internal/slots"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

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
	logger := slog.New(slog.DiscardHandler)
	handler := NewHandler(Options{Catalog: catalog.New(st, nil), Members: members, Logger: logger})
	begun := make(chan net.Conn, 1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- conns.Serve(ctx, ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begun <- conns.Of(r)
			handler.ServeHTTP(w, r)
		}), conns.Options{Logger: logger})
	}()
	defer func() {
		end()
		require.NoError(t, <-ended)
	}()
	ask := func(as string) (unsent int) {
		t.Helper()
		reader, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = reader.Close() })
		_, err = fmt.Fprintf(reader, "GET /v1/shard_001.bin HTTP/1.1\r\nHost: localhost\r\n%s: %s\r\n\r\n",
			wire.SwarmHeader, as)
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(reader), nil)
		require.NoError(t, err)
		t.Cleanup(func() { _ = resp.Body.Close() })
		conn, ok := (<-begun).(*net.TCPConn)
		require.True(t, ok)
		raw, err := conn.SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) {
			unsent, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
		}))
		require.NoError(t, err)
		return unsent
	}
	assert.Equal(t, unsentInSwarm, ask(swarm.AsPeer))
	assert.Equal(t, unsentInSwarm, ask(swarm.AsSpare))
	for range slots.Crowd - 2 {
		assert.NotEqual(t, unsentInCrowd, ask(""), "they are few")
	}
	assert.Equal(t, unsentInCrowd, ask(""), "they are many")
}
