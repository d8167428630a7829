package fetch_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log"
	"log/slog"
	"maps"
	"math/rand/v2"
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
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	shardSize = 1000      // bytes
	never     = time.Hour // longer than any test
)

// content returns size bytes, the same for the same seed.
func content(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// spoiler answers a request in place of the real handler, or passes it on.
type spoiler func(w http.ResponseWriter, r *http.Request, next http.Handler)

// site is a data directory behind the real handler, with the faults of a test.
type site struct {
	*httptest.Server

	store *store.Store

	mu    sync.Mutex // guards the fields below
	spoil spoiler
	paths []string
}

// newSite returns a site that offers files as v1, v2 and so on.
func newSite(t *testing.T, files ...[]byte) *site {
	t.Helper()
	st, err := store.Open(t.TempDir(), store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, st.Close()) })
	logger := slog.New(slog.DiscardHandler)
	for _, data := range files {
		path := filepath.Join(t.TempDir(), "weights.bin")
		require.NoError(t, os.WriteFile(path, data, 0o600))
		_, err := origin.New(st, shardSize, 100, logger).Broadcast(t.Context(), path)
		require.NoError(t, err)
	}
	s := &site{store: st}
	handler := server.NewHandler(server.Options{Catalog: catalog.New(st, nil), Logger: logger})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		spoil := s.spoil
		s.paths = append(s.paths, r.URL.Path)
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

func (s *site) spoilWith(spoil spoiler) *site {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoil = spoil
	return s
}

// spoilPath makes h answer requests for path.
func (s *site) spoilPath(path string, h http.HandlerFunc) *site {
	return s.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.URL.Path == path {
			next = h
		}
		next.ServeHTTP(w, r)
	})
}

// asked returns the number of requests whose path begins with prefix.
func (s *site) asked(prefix string) int { return len(s.askedFor(prefix)) }

func (s *site) askedFor(prefix string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.paths), func(path string) bool { return !strings.HasPrefix(path, prefix) })
}

// retire takes version off the offer, and off the disk.
func (s *site) retire(t *testing.T, version shard.Version) {
	t.Helper()
	w, err := s.store.Lock(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.Retire("a test", version))
	require.NoError(t, w.Unlock())
}

// withoutQuery is r without its digest, for a server that passes another file off as that.
func withoutQuery(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	r.URL.RawQuery = ""
	return r
}

// tampered passes a request on and changes the body of the answer.
func tampered(change func([]byte) []byte) spoiler {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, withoutQuery(r))
		if rec.Code != http.StatusOK {
			w.WriteHeader(rec.Code)
		}
		_, _ = w.Write(change(rec.Body.Bytes()))
	}
}

func flipped(data []byte) []byte {
	data[len(data)/2] ^= 1
	return data
}

// status answers with a status and an empty body.
func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// silence sends no answer until the client has left.
func silence(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// text answers with s.
func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s) }
}

// first makes h answer the first request, and passes on the others.
func first(h spoiler) spoiler {
	var once sync.Once
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := false
		once.Do(func() { answer = true })
		if answer {
			h(w, r, next)
		} else {
			next.ServeHTTP(w, r)
		}
	}
}

// only makes h answer requests whose path contains part, and passes on the others.
func only(part string, h spoiler) spoiler {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, part) {
			h(w, r, next)
		} else {
			next.ServeHTTP(w, r)
		}
	}
}

// by makes a spoiler of a handler.
func by(h http.HandlerFunc) spoiler {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) { h(w, r) }
}

// newPool returns a pool of sites that always draws the first of those that it may ask, and
// makes two attempts a millisecond apart, unless opts set others.
func newPool(t *testing.T, opts fetch.Options, sites ...*site) *fetch.Pool {
	t.Helper()
	for _, s := range sites {
		u, err := url.Parse(s.URL)
		require.NoError(t, err)
		opts.Upstreams = append(opts.Upstreams, u)
	}
	opts.Attempts = cmp.Or(opts.Attempts, 2)
	opts.FastWait = cmp.Or(opts.FastWait, time.Millisecond)
	opts.SlowWait = cmp.Or(opts.SlowWait, time.Millisecond)
	pool, err := fetch.NewOn(fetch.System{Draw: func() float64 { return 0 }}, opts)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// newest refreshes the offers, and returns the newest version.
func newest(t *testing.T, pool *fetch.Pool) (distfile.Entry, shard.Manifest) {
	t.Helper()
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	offers := pool.Offers()
	require.NotEmpty(t, offers)
	e := offers[len(offers)-1]
	m, err := pool.Manifest(t.Context(), e)
	require.NoError(t, err)
	return e, m
}

// logbook keeps the log, a line a record.
type logbook struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *logbook) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logbook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *logbook) errorLog() *log.Logger { return log.New(l, "", 0) }

// with returns the lines that contain all parts.
func (l *logbook) with(parts ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for line := range strings.Lines(l.text.String()) {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
			lines = append(lines, line)
		}
	}
	return lines
}

// memory is a sink in memory. Its methods return its errors, if it has any.
type memory struct {
	wanted                       chan int
	asked                        map[int]bool // not changed
	openErr, writeErr, commitErr error

	mu     sync.Mutex // guards shards
	shards map[int]*memoryShard
}

// keep puts the partial data of an earlier fetch of a shard into m.
func (m *memory) keep(number int, data []byte) {
	m.shard(number).keep(data)
}

// shard returns the place of a shard.
func (m *memory) shard(number int) *memoryShard {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shards == nil {
		m.shards = make(map[int]*memoryShard)
	}
	if m.shards[number] == nil {
		m.shards[number] = &memoryShard{memory: m}
	}
	return m.shards[number]
}

// bytes returns the shards that were committed, one after the other.
func (m *memory) bytes() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []byte
	for _, number := range slices.Sorted(maps.Keys(m.shards)) {
		if s := m.shards[number]; s.committed {
			all = append(all, s.data...)
		}
	}
	return all
}

func (m *memory) Open(s shard.Shard) (fetch.Place, error) {
	place := m.shard(s.Number)
	place.mu.Lock()
	defer place.mu.Unlock()
	if grow := int(s.Size) - len(place.data); grow > 0 {
		place.data = append(place.data, make([]byte, grow)...)
	}
	return place, m.openErr
}

type memoryShard struct {
	memory *memory

	mu        sync.Mutex // guards the fields below
	data      []byte
	written   []disk.Range
	committed bool
}

func (s *memoryShard) keep(data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = data
	s.written = []disk.Range{{To: int64(len(data))}}
}

func (s *memoryShard) Written() ([]disk.Range, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written, nil
}

func (s *memoryShard) ReadAt(p []byte, offset int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.NewReader(s.data).ReadAt(p, offset)
}

func (s *memoryShard) WriteAt(p []byte, offset int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return copy(s.data[offset:offset+int64(len(p))], p), s.memory.writeErr
}

func (s *memoryShard) Commit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.committed = s.memory.commitErr == nil
	return s.memory.commitErr
}

func (s *memoryShard) Close() error { return nil }

func (m *memory) Wanted() <-chan int    { return m.wanted }
func (m *memory) Asked(number int) bool { return m.asked[number] }
func (m *memory) From(int, bool)        {}
func (m *memory) Forget(int)            {}

// readers returns m as the audience of a task.
func (m *memory) readers() fetch.Audience { return m }

// fetchTo fetches e to sink by any manifest.
func fetchTo(ctx context.Context, pool *fetch.Pool, e distfile.Entry, sink fetch.Sink) error {
	_, _, err := pool.Fetch(ctx,
		fetch.Task{Entry: e, Open: func(context.Context, fetch.Manifest) (fetch.Sink, error) { return sink, nil }})
	return err
}
