package server_test

import (
	"bufio"
	"context"
	"errors"
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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// largeSize in bytes is more than any socket takes on its own.
const largeSize = 64 << 20

// running is a call of [server.Serve].
type running struct {
	site

	addr string
	end  context.CancelFunc
	done chan error
}

// serve serves st until the test ends.
func serve(t *testing.T, st *store.Store) *running {
	t.Helper()
	return serveAs(t, server.Options{Catalog: catalog.New(st, nil), Logger: slog.New(slog.DiscardHandler)})
}

// serveAs serves what opts say until the test ends.
func serveAs(t *testing.T, opts server.Options) *running {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	transport := &http.Transport{}
	r := &running{
		site: site{"http://" + ln.Addr().String(), &http.Client{Transport: transport}},
		addr: ln.Addr().String(), end: cancel, done: make(chan error, 1),
	}
	go func() {
		r.done <- server.Serve(ctx, ln, opts)
		close(r.done)
	}()
	t.Cleanup(func() {
		cancel()
		transport.CloseIdleConnections()
		_ = r.wait(t)
	})
	return r
}

// wait returns what Serve has returned.
func (r *running) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		require.FailNow(t, "the server does not end")
		return nil
	}
}

// refusing waits until no new connection is taken.
func (r *running) refusing(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		conn, err := net.DialTimeout("tcp", r.addr, patience)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, patience, time.Millisecond)
}

// begin asks for path and returns the answer with its body unread.
func begin(t *testing.T, conn net.Conn, path string, fields ...string) *http.Response {
	t.Helper()
	header := ""
	for i := 0; i < len(fields); i += 2 {
		header += fields[i] + ": " + fields[i+1] + "\r\n"
	}
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path, header)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 4096), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return resp
}

func TestServeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	st := open(t, t.TempDir())
	publish(t, st, 1, text)
	r := serve(t, st)
	assert.Equal(t, "0123456789", r.get(t, "/v1/shard_001.bin").body)
	kept := dial(t, r.addr)
	resp := begin(t, kept, "/v1/shard_003.bin")
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, errors.Join(err, resp.Body.Close()))
	assert.Equal(t, "xyz", string(body))

	r.end()
	require.NoError(t, r.wait(t))
	_, err = kept.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "a connection that waits for its next request is closed")
	_, err = net.DialTimeout("tcp", r.addr, patience)
	require.Error(t, err)
}

func TestServeFinishesDownloadsBeforeItEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large(t, dir, 1, largeSize)
	r := serve(t, open(t, dir))
	resp := begin(t, dial(t, r.addr), "/v1/shard_001.bin")
	defer resp.Body.Close()

	r.end()
	r.refusing(t)
	select {
	case err := <-r.done:
		require.FailNow(t, "ended in the middle of a download", "%v", err)
	default:
	}
	size, err := io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	assert.EqualValues(t, largeSize, size)
	require.NoError(t, r.wait(t))
}

func TestServeReturnsWhyItCannotServe(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, ln net.Listener, st *store.Store){
		"closed listener": func(t *testing.T, ln net.Listener, _ *store.Store) { require.NoError(t, ln.Close()) },
		"closed store":    func(t *testing.T, _ net.Listener, st *store.Store) { require.NoError(t, st.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			st := open(t, t.TempDir())
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			spoil(t, ln, st)
			done := make(chan error, 1)
			go func() {
				done <- server.Serve(t.Context(), ln,
					server.Options{Catalog: catalog.New(st, nil), Logger: slog.New(slog.DiscardHandler)})
			}()
			select {
			case err := <-done:
				require.Error(t, err)
			case <-time.After(patience):
				require.FailNow(t, "it goes on")
			}
			_, err = net.DialTimeout("tcp", ln.Addr().String(), patience)
			require.Error(t, err, "the listener is closed")
		})
	}
}

func TestAVersionOfAnotherProcessIsServedAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	here, there := open(t, dir), open(t, dir)
	claim(t, here)
	r := serve(t, here)
	require.Empty(t, r.get(t, "/distribution.txt").body)

	var listed strings.Builder
	for i, text := range []string{text, strings.ToUpper(text)} {
		v := shard.Version(i + 1)
		path := fmt.Sprintf("/%s/shard_001.bin", v)
		require.Equal(t, http.StatusNotFound, r.get(t, path).status)
		m := publish(t, there, v, text)
		fmt.Fprintf(&listed, "%s: %s\n", v, m.Digest)
		assert.Equal(t, listed.String(), r.get(t, "/distribution.txt").body)
		assert.Equal(t, text[:10], r.get(t, path).body)
	}
}

func TestServeRemovesVersionsRetiredBeforeAndAfter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st := open(t, dir)
	claim(t, st)
	publish(t, st, 1, text)
	publish(t, st, 2, text)
	retired := func() (names []string) {
		entries, err := os.ReadDir(filepath.Join(dir, ".shardcast", "retired"))
		require.NoError(t, err)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	retire(t, st, 1)
	require.Equal(t, []string{"v1"}, retired())
	r := serve(t, st)
	require.Equal(t, http.StatusOK, r.get(t, "/healthz").status)
	require.Empty(t, retired())

	retire(t, st, 2)
	assert.Equal(t, "xyz", r.get(t, "/v2/shard_003.bin").body, "its readers may finish")
	require.Equal(t, []string{"v2"}, retired())
	r.end()
	require.NoError(t, r.wait(t))
	require.Empty(t, retired())
}

func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	r := serve(t, open(t, t.TempDir()))
	got := r.get(t, "/healthz", "X-Long", strings.Repeat("x", 64<<10))
	assert.Equal(t, http.StatusRequestHeaderFieldsTooLarge, got.status)
	assert.Equal(t, http.StatusOK, r.get(t, "/healthz", "X-Long", strings.Repeat("x", 8<<10)).status)
}

func TestOptionsForTheWholeServerIsRefused(t *testing.T) {
	t.Parallel()
	r := serve(t, open(t, t.TempDir()))
	got := r.raw(t, http.MethodOptions, "*")
	assert.Equal(t, http.StatusMethodNotAllowed, got.status)
	assert.Equal(t, "GET, HEAD", got.header.Get("Allow"))
}

// Failure 1 of the Python package: one idle connection blocked the server.
func TestIdleConnectionsDoNotHoldUpADownload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large(t, dir, 1, largeSize)
	r := serve(t, open(t, dir))
	conns := make([]net.Conn, 1000)
	for i := range conns {
		conns[i] = dial(t, r.addr)
		if i%2 == 0 {
			_, err := io.WriteString(conns[i], "GET /v1/shard_001.bin HTT")
			require.NoError(t, err)
		}
	}
	r.download(t, "/v1/shard_001.bin", largeSize)
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
}

// Failure 2 of the Python package: one slow reader held all other downloads.
func TestReadersThatDoNotReadDoNotHoldUpADownload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large(t, dir, 1, largeSize)
	r := serve(t, open(t, dir))
	conns := make([]*net.TCPConn, 100)
	for i := range conns {
		conns[i] = dial(t, r.addr)
		require.NoError(t, conns[i].SetReadBuffer(4096))
		resp := begin(t, conns[i], "/v1/shard_001.bin")
		defer resp.Body.Close()
	}
	r.download(t, "/v1/shard_001.bin", largeSize)
	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
}

// download fetches path, whose size is known, within what is ample for it.
func (r *running) download(t *testing.T, path string, size int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path, nil)
	require.NoError(t, err)
	resp, err := r.client.Do(request)
	require.NoError(t, err)
	defer resp.Body.Close()
	got, err := io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	require.Equal(t, size, got)
}

func TestManyDownloadsAtOnceAreAllWhole(t *testing.T) {
	t.Parallel()
	st := open(t, t.TempDir())
	publish(t, st, 1, text)
	srv := httptest.NewServer(server.NewHandler(server.Options{
		Catalog: catalog.New(st, nil),
		Logger:  slog.New(slog.DiscardHandler),
	}))
	defer srv.Close()
	s := site{srv.URL, srv.Client()}
	t.Run("downloads", func(t *testing.T) {
		for i := range 50 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for number, want := range []string{"0123456789", "abcdefghij", "xyz"} {
					assert.Equal(t, want, s.get(t, fmt.Sprintf("/v1/shard_%03d.bin", number+1)).body)
				}
			})
		}
	})
}
