package server_test

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
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/slots"
	"github.com/shardcast/shardcast/internal/store"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// open returns a Store of its own, as another process has.
func open(t *testing.T, dir string) *store.Store {
	t.Helper()
	st, err := store.Open(dir, store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// claim keeps the directory until the test ends.
func claim(t *testing.T, st *store.Store) {
	t.Helper()
	release, err := st.Claim(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = release() })
}

// publish publishes text as v, in shards of 10 bytes.
func publish(t *testing.T, st *store.Store, v shard.Version, text string) shard.Manifest {
	t.Helper()
	return publishIn(t, st, v, text, 10)
}

// publishIn publishes text in shards of a size.
func publishIn(t *testing.T, st *store.Store, v shard.Version, text string, shardSize int64) shard.Manifest {
	t.Helper()
	d, err := st.Draft(v)
	require.NoError(t, err)
	m, err := shard.Cut(t.Context(), strings.NewReader(text),
		shard.Plan{Size: int64(len(text)), ShardSize: shardSize, BLAKE3: true, Create: d.Create})
	require.NoError(t, err)
	m.Name, m.Date = "file.bin", time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	require.NoError(t, st.Keep(t.Context(), 100))
	w, err := st.Lock(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.Publish(d, m))
	require.NoError(t, w.Unlock())
	return m
}

func retire(t *testing.T, st *store.Store, versions ...shard.Version) {
	t.Helper()
	w, err := st.Lock(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.Retire("a test", versions...))
	require.NoError(t, w.Unlock())
}

// large puts a version of one shard of size zeros into dir, without a manifest,
// as other programs do. It takes no room on the disk.
func large(t *testing.T, dir string, v shard.Version, size int64) {
	t.Helper()
	name := filepath.Join(dir, v.String(), shard.FileName(1))
	write(t, name, "")
	require.NoError(t, os.Truncate(name, size))
}

func write(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
}

// answer is what a server has said, to the end.
type answer struct {
	status int
	header http.Header
	body   string
}

// site is a running server of a data directory.
type site struct {
	url    string
	client *http.Client
}

// newSite serves st without limits.
func newSite(t *testing.T, st *store.Store) site {
	t.Helper()
	return newLimitedSite(t, st, slots.Limits{})
}

func newLimitedSite(t *testing.T, st *store.Store, limits slots.Limits) site {
	t.Helper()
	return newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), Limits: limits})
}

// newSiteAs serves what opts say, but for its logger.
func newSiteAs(t *testing.T, opts server.Options) site {
	t.Helper()
	opts.Logger = slog.New(slog.DiscardHandler)
	srv := httptest.NewServer(server.NewHandler(opts))
	t.Cleanup(srv.Close)
	return site{srv.URL, srv.Client()}
}

// ask sends a request whose header has the fields given as name and value in
// turn.
func (s site) ask(t *testing.T, method, path string, fields ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, nil)
	require.NoError(t, err)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	resp, err := s.client.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func (s site) get(t *testing.T, path string, fields ...string) answer {
	t.Helper()
	return s.ask(t, http.MethodGet, path, fields...)
}

// dial connects to addr. The connection is closed with the test at the latest,
// and breaks off after patience.
func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	tcp, ok := conn.(*net.TCPConn)
	require.True(t, ok)
	return tcp
}

// raw asks for target as it stands, which a client might tidy up.
func (s site) raw(t *testing.T, method, target string) answer {
	t.Helper()
	conn := dial(t, strings.TrimPrefix(s.url, "http://"))
	_, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", method, target)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp.StatusCode, resp.Header, string(body)}
}
