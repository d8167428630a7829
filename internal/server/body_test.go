package server

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/store"
)

func TestARequestWhoseBodyNeverComesIsNotWaitedForForEver(t *testing.T) {
	st, err := store.Open(t.TempDir(), store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	opts := Options{Catalog: catalog.New(st, nil), Logger: slog.New(slog.DiscardHandler)}
	chain, ok := newHandler(opts, nil).chain.(routing)
	require.True(t, ok)
	web, ok := chain.next.(pages)
	require.True(t, ok)
	reads, ok := web.next.(reading)
	require.True(t, ok)
	reads.bodyTimeout = 50 * time.Millisecond
	web.next = reads
	chain.next = web
	srv := httptest.NewServer(chain)
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprint(conn, "GET /distribution.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	got, err := io.ReadAll(conn)
	require.NoError(t, err, "the server has not closed the connection")
	require.Contains(t, string(got), "200 OK")
}
