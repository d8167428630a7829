package server_test

import (
	"crypto/sha256"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// publishDelta publishes v as streamed, with a delta from base of the shards "changes" and "!".
func publishDelta(t *testing.T, st *store.Store, v, base shard.Version) shard.Delta {
	t.Helper()
	d, err := st.Draft(v)
	require.NoError(t, err)
	m, err := shard.Cut(t.Context(), strings.NewReader(streamed),
		shard.Plan{Size: int64(len(streamed)), ShardSize: 10, Create: d.Create})
	require.NoError(t, err)
	delta, err := d.Delta(base)
	require.NoError(t, err)
	content, err := shard.Cut(t.Context(), strings.NewReader("changes!"),
		shard.Plan{Size: 8, ShardSize: 7, Create: delta.Create})
	require.NoError(t, err)
	line, err := delta.EndDelta(shard.DeltaManifest{
		Format: shard.DeltaFormat, BaseDigest: shard.Digest{1}, TargetDigest: m.Digest,
		Size: content.Size, ShardSize: content.ShardSize, Digest: content.Digest, Shards: content.Shards,
	})
	require.NoError(t, err)
	m.Deltas = []shard.Delta{line}
	w, err := st.Lock(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.Publish(d, m))
	require.NoError(t, w.Unlock())
	return line
}

func TestADeltaIsServedBesideItsVersion(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	line := publishDelta(t, st, 2, 1)
	s := newSite(t, st)

	text, err := os.ReadFile(filepath.Join(dir, "v2", "from_v1", "manifest.json"))
	require.NoError(t, err)
	got := s.ask(t, http.MethodGet, "/v2/from_v1/manifest.json")
	assert.Equal(t, http.StatusOK, got.status)
	assert.Equal(t, string(text), got.body)
	assert.Equal(t, `"`+line.Manifest.String()+`"`, got.header.Get("ETag"))
	assert.Equal(t, "application/json", got.header.Get("Content-Type"))
	assert.Equal(t, "no-cache", got.header.Get("Cache-Control"))

	first := shard.Digest(sha256.Sum256([]byte("changes")))
	got = s.ask(t, http.MethodGet, "/v2/from_v1/shard_001.bin")
	assert.Equal(t, "changes", got.body)
	assert.Equal(t, `"`+first.String()+`"`, got.header.Get("ETag"))
	assert.Equal(t, "!", s.ask(t, http.MethodGet, "/v2/from_v1/shard_002.bin").body)
	got = s.ask(t, http.MethodGet, "/v2/from_v1/shard_001.bin", "Range", "bytes=2-4")
	assert.Equal(t, http.StatusPartialContent, got.status)
	assert.Equal(t, "ang", got.body)
	assert.Equal(t, "7", s.ask(t, http.MethodHead, "/v2/from_v1/shard_001.bin").header.Get("Content-Length"))
	assert.Equal(t, http.StatusNotModified,
		s.ask(t, http.MethodGet, "/v2/from_v1/shard_001.bin", "If-None-Match", `"`+first.String()+`"`).status)
}

func TestADeltaThatIsNamedByItsDigestIsImmutable(t *testing.T) {
	st := open(t, t.TempDir())
	line := publishDelta(t, st, 2, 1)
	s := newSite(t, st)
	for path, digest := range map[string]shard.Digest{
		"/v2/from_v1/manifest.json": line.Manifest, "/v2/from_v1/shard_002.bin": sha256.Sum256([]byte("!")),
	} {
		got := s.ask(t, http.MethodGet, path+"?digest="+digest.String())
		assert.Equal(t, http.StatusOK, got.status, path)
		assert.Contains(t, got.header.Get("Cache-Control"), "immutable", path)
		digest[0]++
		assert.Equal(t, http.StatusNotFound, s.ask(t, http.MethodGet, path+"?digest="+digest.String()).status, path)
	}
}

func TestWhatIsNoDeltaIsNotFound(t *testing.T) {
	st := open(t, t.TempDir())
	publishDelta(t, st, 2, 1)
	s := newSite(t, st)
	for _, path := range []string{
		"/v2/from_v3/manifest.json", "/v1/from_v2/manifest.json", "/v2/from_v1/shard_003.bin",
		"/v2/from_v1/shard_000.bin", "/v2/from_v1", "/v2/from_v1/", "/v2/from_v1/SHA256SUMS",
		"/v2/from_v01/manifest.json", "/v2/from_1/manifest.json",
		"/v2/from_v1/from_v1/manifest.json", "/v2/from_v1/../manifest.json", "/latest/from_v1/manifest.json",
		"/v2/v1/manifest.json", "/v2/from_v1/shard_001.bin/", "/v2/from_v1/stream", "/from_v1/manifest.json",
		"/py01/v2/from_v1/manifest.json", "/py03/v2/from_v1/shard_001.bin",
	} {
		assert.Equal(t, http.StatusNotFound, s.ask(t, http.MethodGet, path).status, path)
	}
	assert.Equal(t, http.StatusMethodNotAllowed, s.ask(t, http.MethodPost, "/v2/from_v1/shard_001.bin").status)

	w, err := st.Lock(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.Withdraw(2))
	require.NoError(t, w.Unlock())
	for _, path := range []string{"/v2/from_v1/manifest.json", "/v2/from_v1/shard_001.bin"} {
		assert.Equal(t, http.StatusGone, s.ask(t, http.MethodGet, path).status, path)
	}
}
