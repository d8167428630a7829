package middle_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/middle"
	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	shardSize = 1000                  // bytes
	interval  = 10 * time.Millisecond // between two requests to an upstream
	patience  = time.Minute           // of a test that waits for an event
)

// content returns size bytes, the same for the same seed.
func content(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// spoiler answers a request in place of the real handler, or passes it on.
type spoiler func(w http.ResponseWriter, r *http.Request, next http.Handler)

// site is an origin behind the real handler, which a test can spoil.
type site struct {
	*httptest.Server

	store  *store.Store
	origin *origin.Origin

	mu    sync.Mutex // guards what follows
	spoil spoiler
	paths []string
	more  chan struct{} // closed by the next request
}

// newSite returns a site that lists files as v1, v2 and so on.
func newSite(t *testing.T, files ...[]byte) *site {
	t.Helper()
	return newSiteOf(t, shardSize, files...)
}

// newSiteOf is newSite with shards of size bytes.
func newSiteOf(t *testing.T, size int64, files ...[]byte) *site {
	t.Helper()
	st, err := store.Open(t.TempDir(), store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, st.Close()) })
	logger := slog.New(slog.DiscardHandler)
	s := &site{store: st, origin: origin.New(st, size, 100, logger), more: make(chan struct{})}
	for _, data := range files {
		s.broadcast(t, data)
	}
	handler := server.NewHandler(server.Options{Catalog: catalog.New(st, nil), Logger: logger})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.paths = append(s.paths, r.URL.Path)
		close(s.more)
		s.more = make(chan struct{})
		spoil := s.spoil
		s.mu.Unlock()
		if spoil == nil {
			handler.ServeHTTP(w, r)
		} else {
			spoil(w, r, handler)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) broadcast(t *testing.T, data []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weights.bin")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	_, err := s.origin.Broadcast(t.Context(), path)
	require.NoError(t, err)
}

// retire retires version.
func (s *site) retire(t *testing.T, version shard.Version) {
	t.Helper()
	w, err := s.store.Lock(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.Retire("a test", version))
	require.NoError(t, w.Unlock())
}

func (s *site) spoilWith(spoil spoiler) *site {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoil = spoil
	return s
}

// spoilPath has h answer requests for path.
func (s *site) spoilPath(path string, h http.HandlerFunc) *site {
	return s.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.URL.Path == path {
			next = h
		}
		next.ServeHTTP(w, r)
	})
}

// asked returns the paths of requests that contain part.
func (s *site) asked(part string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.paths), func(path string) bool { return !strings.Contains(path, part) })
}

// awaitRounds waits until the follower of s has requested its distribution, acted on the
// answer, and done both once more.
func (s *site) awaitRounds(t *testing.T) {
	t.Helper()
	want := len(s.asked("/distribution.txt")) + 3
	await(t, "requests for the distribution", func() (bool, <-chan struct{}) {
		got := len(s.asked("/distribution.txt"))
		s.mu.Lock()
		defer s.mu.Unlock()
		return got >= want, s.more
	})
}

// await waits until done returns true. It calls done again when its channel closes.
func await(t *testing.T, event string, done func() (bool, <-chan struct{})) {
	t.Helper()
	late := time.After(patience)
	for {
		ok, more := done()
		if ok {
			return
		}
		select {
		case <-more:
		case <-late:
			require.Fail(t, "it takes too long", "waiting for %s", event)
		}
	}
}

// logbook is a log, one record per line.
type logbook struct {
	mu    sync.Mutex // guards what follows
	lines []string
	more  chan struct{} // closed by the next record
}

func (l *logbook) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(line))
	close(l.more)
	l.more = make(chan struct{})
	return len(line), nil
}

// await waits for a record with all parts.
func (l *logbook) await(t *testing.T, parts ...string) { l.awaitTimes(t, 1, parts...) }

// awaitTimes waits for a number of records with all parts.
func (l *logbook) awaitTimes(t *testing.T, times int, parts ...string) {
	t.Helper()
	await(t, strings.Join(parts, ", "), func() (bool, <-chan struct{}) {
		lines, more := l.with(parts...)
		return len(lines) >= times, more
	})
}

// with returns the lines that contain all parts, and a channel that the next record closes.
func (l *logbook) with(parts ...string) (lines []string, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
			lines = append(lines, line)
		}
	}
	return lines, l.more
}

// node is a middle that runs.
type node struct {
	url  string
	log  *logbook
	stop func() // stops it; later calls do nothing
}

// newPool returns a pool that makes two attempts, with opts.
func newPool(t *testing.T, opts fetch.Options, upstreams ...string) *fetch.Pool {
	t.Helper()
	opts.Attempts, opts.FastWait, opts.SlowWait = 2, time.Millisecond, time.Millisecond
	for _, upstream := range upstreams {
		u, err := url.Parse(upstream)
		require.NoError(t, err)
		opts.Upstreams = append(opts.Upstreams, u)
	}
	pool, err := fetch.New(opts)
	require.NoError(t, err)
	return pool
}

// run runs a middle in dir that keeps 3 versions of upstreams.
func run(t *testing.T, dir string, upstreams ...string) *node {
	t.Helper()
	return runBy(t, middle.Options{}, fetch.Options{}, dir, upstreams...)
}

// runBy is run with options that do not concern the interval, number, attempts and logger.
func runBy(t *testing.T, opts middle.Options, by fetch.Options, dir string, upstreams ...string) *node {
	t.Helper()
	n := &node{log: &logbook{more: make(chan struct{})}}
	logger := slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	by.Logger = logger
	pool := newPool(t, by, upstreams...)
	st, err := store.Open(dir, store.Middle)
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n.url = "http://" + ln.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	opts.Interval, opts.Keep, opts.Logger = interval, 3, logger
	go func() { ended <- middle.New(st, pool, opts).Serve(ctx, ln, server.Options{}) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		err := <-ended
		pool.Close()
		assert.NoError(t, errors.Join(err, st.Close()))
	})
	t.Cleanup(n.stop)
	return n
}

// get returns the answer of n.
func (n *node) get(t *testing.T, path string) (status int, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.url+path, http.NoBody)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, body
}

// versions returns the versions that n lists.
func (n *node) versions(t *testing.T) (versions []string) {
	t.Helper()
	_, text := n.get(t, "/distribution.txt")
	entries, _, err := distfile.Parse(strings.NewReader(string(text)))
	require.NoError(t, err)
	for _, e := range entries {
		versions = append(versions, e.Version.String())
	}
	return versions
}

// assertServes asserts that n serves version, with data as its content.
func (n *node) assertServes(t *testing.T, version string, data []byte) {
	t.Helper()
	assert.Contains(t, n.versions(t), version)
	var got []byte
	for number := 1; len(got) < len(data); number++ {
		status, body := n.get(t, "/"+version+"/"+shard.FileName(number))
		require.Equal(t, http.StatusOK, status, "shard %d", number)
		got = append(got, body...)
	}
	assert.True(t, bytes.Equal(data, got), "%s has wrong bytes", version)
}
