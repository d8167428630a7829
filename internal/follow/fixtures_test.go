package follow_test

import (
	"crypto/sha256"
	"fmt"
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
	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/follow"
	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const shardSize = 1000 // bytes

var silent = slog.New(slog.DiscardHandler)

// content returns size bytes, the same for the same seed.
func content(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

func digestOf(data []byte) shard.Digest { return sha256.Sum256(data) }

// site is a server whose shards a test can spoil.
type site struct {
	*httptest.Server

	store *store.Store // nil if the site is made of plain files

	mu    sync.Mutex       // guards the fields below
	spoil http.HandlerFunc // answers requests for shards, if any
	only  string           // if not empty, spoil answers only for the file of this name
	asked map[string]bool  // paths of shards that were requested
}

// newSite returns a site that offers files as v1, v2 and so on.
func newSite(t *testing.T, files ...[]byte) *site {
	t.Helper()
	st, err := store.Open(t.TempDir(), store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, st.Close()) })
	for _, data := range files {
		path := filepath.Join(t.TempDir(), "weights.bin")
		require.NoError(t, os.WriteFile(path, data, 0o600))
		_, err := origin.New(st, shardSize, 100, silent).Broadcast(t.Context(), path)
		require.NoError(t, err)
	}
	s := serve(t, server.NewHandler(server.Options{Catalog: catalog.New(st, nil), Logger: silent}))
	s.store = st
	return s
}

func serve(t *testing.T, handler http.Handler) *site {
	t.Helper()
	s := &site{asked: make(map[string]bool)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := handler.ServeHTTP
		if strings.Contains(r.URL.Path, "shard_") {
			s.mu.Lock()
			s.asked[r.URL.Path] = true
			if s.spoil != nil && strings.HasSuffix(r.URL.Path, s.only) {
				answer = s.spoil
			}
			s.mu.Unlock()
		}
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// spoilShards makes h answer requests for shards.
func (s *site) spoilShards(h http.HandlerFunc) *site { return s.spoilShard("", h) }

// spoilShard makes h answer requests for the shard file name.
func (s *site) spoilShard(name string, h http.HandlerFunc) *site {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoil, s.only = h, name
	return s
}

// shardsAsked returns the paths of the shards that were requested since the last call. How often
// each was requested depends on how fast the machine is.
func (s *site) shardsAsked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := slices.Sorted(maps.Keys(s.asked))
	clear(s.asked)
	return asked
}

// silence answers nothing until the client has gone.
func silence(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// follow returns o with a client of the site, and of more, that gives up after two attempts.
func (s *site) follow(t *testing.T, o follow.Options, more ...*site) follow.Options {
	t.Helper()
	opts := fetch.Options{Attempts: 2, FastWait: time.Millisecond, SlowWait: time.Millisecond}
	for _, s := range append([]*site{s}, more...) {
		u, err := url.Parse(s.URL)
		require.NoError(t, err)
		opts.Upstreams = append(opts.Upstreams, u)
	}
	pool, err := fetch.New(opts)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	o.Pool, o.Client, o.Logger = pool, client.New(pool, silent), silent
	return o
}

// assertFiles asserts that dir holds files of these names and contents, and nothing else; of
// anything but a file only the name counts.
func assertFiles(t *testing.T, dir string, want map[string][]byte) {
	t.Helper()
	summary := func(data []byte) string { return fmt.Sprintf("%d bytes, %s", len(data), digestOf(data)) }
	wanted, got := make(map[string]string), make(map[string]string)
	for name, data := range want {
		wanted[name] = summary(data)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		var data []byte
		if e.Type().IsRegular() {
			data, err = os.ReadFile(filepath.Join(dir, e.Name()))
			require.NoError(t, err)
		}
		got[e.Name()] = summary(data)
	}
	assert.Equal(t, wanted, got)
}
