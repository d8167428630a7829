// Package sitetest has a server for tests of downloads: a data directory behind the real
// handler, whose shards a test can spoil.
package sitetest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
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

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// ShardSize is that of all shards, in bytes.
const ShardSize = 1000

// Content returns size bytes, the same for the same seed.
func Content(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// DigestOf returns the digest of data.
func DigestOf(data []byte) shard.Digest { return sha256.Sum256(data) }

// Silence answers nothing until the client has gone.
func Silence(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// A Site is a server whose shards a test can spoil.
type Site struct {
	*httptest.Server

	// Store is its data directory, or nil if the site is made of plain files.
	Store *store.Store

	mu    sync.Mutex       // guards the fields below
	spoil http.HandlerFunc // answers requests for shards, if any
	only  string           // if not empty, spoil answers only for the file of this name
	asked map[string]bool  // paths of shards that were requested
}

// New returns a site that offers files as v1, v2 and so on.
func New(t *testing.T, files ...[]byte) *Site {
	t.Helper()
	var paths []string
	for _, data := range files {
		path := filepath.Join(t.TempDir(), "weights.bin")
		require.NoError(t, os.WriteFile(path, data, 0o600))
		paths = append(paths, path)
	}
	return Of(t, paths...)
}

// Of returns a site that offers the files and directories paths as v1, v2 and so on.
func Of(t *testing.T, paths ...string) *Site {
	t.Helper()
	silent := slog.New(slog.DiscardHandler)
	st, err := store.Open(t.TempDir(), store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, st.Close()) })
	for _, path := range paths {
		_, err := origin.New(st, ShardSize, 100, silent).Broadcast(t.Context(), path)
		require.NoError(t, err)
	}
	s := Serve(t, server.NewHandler(server.Options{Catalog: catalog.New(st, nil), Logger: silent}))
	s.Store = st
	return s
}

// Plain returns a site that serves files by their names, like any web server.
func Plain(t *testing.T, files map[string]string) *Site {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return Serve(t, http.FileServer(http.Dir(dir)))
}

// Lying returns a site that offers what s does, but with the list of v1's files that change
// makes of the right one, which its manifest describes.
func Lying(t *testing.T, s *Site, change func(list string) string) *Site {
	t.Helper()
	list := change(string(s.Get(t, "/v1/files.jsonl")))
	var manifest map[string]any
	require.NoError(t, json.Unmarshal(s.Get(t, "/v1/manifest.json"), &manifest))
	manifest["files"] = shard.Files{
		Count: strings.Count(list, "\n"), Size: int64(len(list)), Digest: DigestOf([]byte(list)),
	}
	text, err := json.Marshal(manifest)
	require.NoError(t, err)
	return Serve(t, s.WithText(map[string]string{"/v1/files.jsonl": list, "/v1/manifest.json": string(text)}))
}

// WithText returns a handler that answers with texts by their paths, and else with what s
// answers.
func (s *Site) WithText(texts map[string]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text, ok := texts[r.URL.Path]; ok {
			_, _ = io.WriteString(w, text)
			return
		}
		s.Config.Handler.ServeHTTP(w, r)
	})
}

// Get returns what the site answers.
func (s *Site) Get(t *testing.T, path string) []byte {
	t.Helper()
	answer := httptest.NewRecorder()
	s.Config.Handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil))
	require.Equal(t, http.StatusOK, answer.Code)
	return answer.Body.Bytes()
}

// Serve returns a site of a handler.
func Serve(t *testing.T, handler http.Handler) *Site {
	t.Helper()
	s := &Site{asked: make(map[string]bool)}
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

// SpoilShards makes h answer requests for shards.
func (s *Site) SpoilShards(h http.HandlerFunc) *Site { return s.SpoilShard("", h) }

// SpoilShard makes h answer requests for the shard file name.
func (s *Site) SpoilShard(name string, h http.HandlerFunc) *Site {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoil, s.only = h, name
	return s
}

// ShardsAsked returns the paths of the shards that were requested since the last call. How
// often each was requested depends on how fast the machine is.
func (s *Site) ShardsAsked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := slices.Sorted(maps.Keys(s.asked))
	clear(s.asked)
	return asked
}

// Pool returns a pool of sites that gives up after two attempts.
func Pool(t *testing.T, sites ...*Site) *fetch.Pool {
	t.Helper()
	opts := fetch.Options{Attempts: 2, FastWait: time.Millisecond, SlowWait: time.Millisecond}
	for _, s := range sites {
		u, err := url.Parse(s.URL)
		require.NoError(t, err)
		opts.Upstreams = append(opts.Upstreams, u)
	}
	pool, err := fetch.New(opts)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// AssertFiles asserts that dir holds files of these names and contents, and nothing else; of
// anything but a file only the name counts.
func AssertFiles(t *testing.T, dir string, want map[string][]byte) {
	t.Helper()
	summary := func(data []byte) string { return fmt.Sprintf("%d bytes, %s", len(data), DigestOf(data)) }
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
