package server_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
)

const immutable = "public, max-age=31536000, immutable"

func TestAnswersNamedByTheirDigestMayBeKept(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	m := publish(t, st, 1, text)
	s := newSite(t, st)
	for target, kept := range map[string]bool{
		fmt.Sprintf("/v1/shard_001.bin?digest=%s", m.Shards[0]):              true,
		fmt.Sprintf("/v1/shard_00002.bin?digest=%s", m.Shards[1]):            true,
		fmt.Sprintf("/py03/v1/shard_003.bin?a=b&digest=%s&c", m.Shards[2]):   true,
		fmt.Sprintf("/v1/shard_001.bin?digest=%s", m.Shards[1]):              false,
		fmt.Sprintf("/v1/shard_001.bin?digest=%s", m.Digest):                 false,
		fmt.Sprintf("/v1/shard_004.bin?digest=%s", m.Shards[0]):              false,
		fmt.Sprintf("/v1/shard_001.bin?digest=%X", m.Shards[0]):              false,
		fmt.Sprintf("/v1/shard_001.bin?digest=%s0", m.Shards[0]):             false,
		fmt.Sprintf("/v1/shard_001.bin?digest=%s&digest=%[1]s", m.Shards[0]): false,
		"/v1/shard_001.bin?digest=":                                          false,
		"/v1/shard_001.bin?digest":                                           false,
		"/v1/shard_001.bin?digest=abc":                                       false,
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			got := s.ask(t, method, target)
			if kept {
				assert.Equal(t, http.StatusOK, got.status, target)
				assert.Equal(t, immutable, got.header.Get("Cache-Control"), target)
				continue
			}
			assert.Equal(t, http.StatusNotFound, got.status, target)
			assert.Equal(t, "no-cache", got.header.Get("Cache-Control"), target)
			assert.Empty(t, got.header.Get("ETag"), target)
		}
	}
}

func TestAnswersNotNamedByTheirDigestAreAskedForAgain(t *testing.T) {
	st := open(t, t.TempDir())
	m := publish(t, st, 1, text)
	write(t, filepath.Join(st.Dir(), "v3", "shard_001.bin"), "without a manifest")
	s := newSite(t, st)
	unknown := s.get(t, "/v3/shard_001.bin?digest="+m.Shards[0].String())
	assert.Equal(t, http.StatusOK, unknown.status, "it may be that, and the client will see")
	assert.Equal(t, "no-cache", unknown.header.Get("Cache-Control"))
	for _, path := range []string{"/v1/shard_001.bin", "/v1/manifest.json", "/v1/SHA256SUMS", "/distribution.txt"} {
		for _, query := range []string{"", "?", "?other=x", "?Digest=x", "?%zz", "?a=digest"} {
			got := s.get(t, path+query)
			assert.Equal(t, http.StatusOK, got.status, path+query)
			assert.Equal(t, "no-cache", got.header.Get("Cache-Control"), path+query)
		}
	}
	// A manifest has no digest that others state.
	for _, digest := range []shard.Digest{m.Digest, m.BLAKE3, m.Shards[0]} {
		got := s.get(t, "/v1/manifest.json?digest="+digest.String())
		assert.Equal(t, http.StatusOK, got.status)
		assert.Equal(t, "no-cache", got.header.Get("Cache-Control"))
		assert.NotEmpty(t, got.header.Get("ETag"))
	}
}

// Some caches keep whatever has a lifetime, also an error.
func TestOnlyAnswersWithTheShardMayBeKept(t *testing.T) {
	st := open(t, t.TempDir())
	m := publish(t, st, 1, text)
	s := newSite(t, st)
	target := "/v1/shard_001.bin?digest=" + m.Shards[0].String()
	for field, want := range map[[2]string]struct {
		status int
		cache  string
	}{
		{"Range", "bytes=1-2"}:                 {http.StatusPartialContent, immutable},
		{"If-None-Match", quoted(m.Shards[0])}: {http.StatusNotModified, immutable},
		{"Range", "bytes=99-"}:                 {http.StatusRequestedRangeNotSatisfiable, ""},
		{"If-Match", quoted(m.Shards[1])}:      {http.StatusPreconditionFailed, "no-cache"},
		{"If-Match", quoted(m.Shards[0])}:      {http.StatusOK, "no-cache"},
		{"If-Range", quoted(m.Shards[1])}:      {http.StatusOK, immutable},
	} {
		got := s.get(t, target, field[0], field[1])
		assert.Equal(t, want.status, got.status, field)
		assert.Equal(t, want.cache, got.header.Get("Cache-Control"), field)
	}
}

// A number that came back with another file is not found by the digest of the old one.
func TestReplacedVersionIsNotKeptUnderTheOldDigest(t *testing.T) {
	st := open(t, t.TempDir())
	s := newSite(t, st)
	old := publish(t, st, 1, text)
	targets := []string{
		"/v1/shard_002.bin?digest=" + old.Shards[1].String(),
		"/py03/v1/shard_002.bin?digest=" + old.Shards[1].String(),
	}
	for _, target := range targets {
		require.Equal(t, immutable, s.get(t, target).header.Get("Cache-Control"))
	}
	retire(t, st, 1)
	publish(t, st, 1, strings.ToUpper(text))
	for _, target := range targets {
		assert.Equal(t, http.StatusNotFound, s.get(t, target).status, target)
	}
}

func TestArrivingAnswersAreNotKept(t *testing.T) {
	f := newFeed(t, feedSize)
	f.write(t, 0, feedSize)
	digests := f.version.Manifest.Shards
	first, second := "/v1/shard_001.bin?digest=", "/v1/shard_002.bin?digest="
	for target, ok := range map[string]bool{
		first + digests[0].String(): true,
		first + digests[1].String(): false,
		first + "x":                 false,
	} {
		got := f.ask(t, http.MethodHead, target)
		assert.Equal(t, "no-cache", got.header.Get("Cache-Control"), target)
		if ok {
			assert.Equal(t, http.StatusOK, got.status, target)
			assert.NotEmpty(t, got.header.Get("Shardcast-Tier"), target)
		} else {
			assert.Equal(t, http.StatusNotFound, got.status, target)
			assert.Empty(t, got.header.Get("Shardcast-Tier"), target)
		}
	}
	late := f.get(t, second+digests[1].String(), "Prefer", "wait=0")
	assert.Equal(t, http.StatusServiceUnavailable, late.status)
	assert.Equal(t, "no-cache", late.header.Get("Cache-Control"))

	f.version.Shard(1).Verify()
	assert.Equal(t, immutable, f.get(t, first+digests[0].String()).header.Get("Cache-Control"),
		"it is known to be right")
	assert.Equal(t, http.StatusNotFound, f.get(t, first+digests[1].String()).status)
	require.NoError(t, os.Remove(f.file.Name()))
	gone := f.get(t, first+digests[0].String())
	assert.Equal(t, http.StatusNotFound, gone.status)
	assert.Equal(t, "no-cache", gone.header.Get("Cache-Control"))
}

func TestSumsOfAnArrivingVersion(t *testing.T) {
	f := newFeed(t, 10)
	digests := f.version.Manifest.Shards
	got := f.get(t, "/v1/SHA256SUMS")
	assert.Equal(t, http.StatusOK, got.status)
	assert.Equal(t, fmt.Sprintf("%s  shard_001.bin\n%s  shard_002.bin\n", digests[0], digests[1]), got.body)
	assert.Equal(t, fmt.Sprint(feedTier), got.header.Get("Shardcast-Tier"))
	f.version.End()
	assert.Equal(t, http.StatusServiceUnavailable, f.get(t, "/v1/SHA256SUMS").status, "no fetch brings it")
	f.board.Unlist(1)
	assert.Equal(t, http.StatusNotFound, f.get(t, "/v1/SHA256SUMS").status)
}
