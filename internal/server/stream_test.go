package server_test

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
)

const streamed = "0123456789abcdefghijABCDE" // three shards

func TestStreamIsTheWholeVersion(t *testing.T) {
	st := open(t, t.TempDir())
	m := publish(t, st, 1, streamed)
	s := newSite(t, st)
	got := s.ask(t, http.MethodGet, "/v1/stream")
	assert.Equal(t, http.StatusOK, got.status)
	assert.Equal(t, streamed, got.body)
	assert.Equal(t, `"`+m.Digest.String()+`"`, got.header.Get("ETag"))
	digest := sha256.Sum256([]byte(streamed))
	assert.Equal(t, "sha-256=:"+base64.StdEncoding.EncodeToString(digest[:])+":", got.header.Get("Repr-Digest"))
	assert.Equal(t, "attachment; filename=file.bin", got.header.Get("Content-Disposition"))
	assert.Equal(t, "25", s.ask(t, http.MethodHead, "/v1/stream").header.Get("Content-Length"))
	assert.Equal(t, http.StatusNotFound, s.ask(t, http.MethodGet, "/v2/stream").status)
}

func TestStreamIsReadInRanges(t *testing.T) {
	st := open(t, t.TempDir())
	publish(t, st, 1, streamed)
	s := newSite(t, st)
	for fields, want := range map[string]string{
		"bytes=0-0": "0", "bytes=8-11": "89ab", "bytes=9-20": "9abcdefghijA", "bytes=-3": "CDE", "bytes=20-": "ABCDE",
	} {
		got := s.ask(t, http.MethodGet, "/v1/stream", "Range", fields)
		assert.Equal(t, http.StatusPartialContent, got.status, fields)
		assert.Equal(t, want, got.body, fields)
	}
	assert.Equal(t, http.StatusRequestedRangeNotSatisfiable,
		s.ask(t, http.MethodGet, "/v1/stream", "Range", "bytes=25-").status)
}

func TestStreamOfAnEmptyVersionIsEmpty(t *testing.T) {
	st := open(t, t.TempDir())
	publish(t, st, 1, "")
	got := newSite(t, st).ask(t, http.MethodGet, "/v1/stream")
	assert.Equal(t, http.StatusOK, got.status)
	assert.Empty(t, got.body)
}

func TestLatestIsTheNewestVersion(t *testing.T) {
	st := open(t, t.TempDir())
	s := newSite(t, st)
	assert.Equal(t, http.StatusNotFound, s.ask(t, http.MethodGet, "/latest/stream").status)
	publish(t, st, 1, "one")
	publish(t, st, 2, "two")
	got := s.ask(t, http.MethodGet, "/latest/stream")
	assert.Equal(t, "two", got.body)
	assert.Equal(t, "/v2/stream", got.header.Get("Content-Location"))
	assert.Equal(t, "no-cache", got.header.Get("Cache-Control"))
	manifest := s.ask(t, http.MethodGet, "/latest/manifest.json")
	assert.Equal(t, s.ask(t, http.MethodGet, "/v2/manifest.json").body, manifest.body)
	assert.Equal(t, "/v2/manifest.json", manifest.header.Get("Content-Location"))
	assert.Equal(t, http.StatusNotFound, s.ask(t, http.MethodGet, "/latest/shard_001.bin").status)
	assert.Equal(t, http.StatusNotFound, s.ask(t, http.MethodGet, "/py03/latest/stream").status)
	assert.Equal(t, http.StatusNotFound, s.ask(t, http.MethodGet, "/py01/v2/stream").status)
}

func TestStreamIsBrokenOffWhereAShardIsMissing(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	publish(t, st, 1, streamed)
	require.NoError(t, os.Remove(dir+"/v1/shard_002.bin"))
	s := newSite(t, st)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/v1/stream", nil)
	require.NoError(t, err)
	resp, err := s.client.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.Error(t, err, "an answer that ends early must not look whole")
	assert.Equal(t, "0123456789", string(text))
}

func TestStreamIsSentWhileItArrives(t *testing.T) {
	f := newFeed(t, feedSize)
	f.write(t, 0, 1000)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.url+"/v1/stream", nil)
	require.NoError(t, err)
	resp, err := f.client.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.EqualValues(t, feedSize+1, resp.ContentLength)
	assert.Equal(t, "3", resp.Header.Get("Shardcast-Tier"))
	f.reads(t, begun{resp}, 0, 1000)
	f.write(t, 1000, 5000)
	f.reads(t, begun{resp}, 1000, 5000)
}

func TestListOfFilesIsServedAsItWasWritten(t *testing.T) {
	const list = `{"path":"a","directory":true}` + "\n"
	st := open(t, t.TempDir())
	d, err := st.Draft(1)
	require.NoError(t, err)
	text := strings.Repeat("\x00", 1536)
	m, err := shard.Cut(t.Context(), strings.NewReader(text), shard.Plan{Size: 1536, ShardSize: 1000, Create: d.Create})
	require.NoError(t, err)
	m.Files = &shard.Files{Count: 1, Size: int64(len(list)), Digest: sha256.Sum256([]byte(list))}
	require.NoError(t, d.Write(shard.FilesName, []byte(list)))
	w, err := st.Lock(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.Publish(d, m))
	require.NoError(t, w.Unlock())
	publish(t, st, 2, "a file")

	s := newSite(t, st)
	got := s.ask(t, http.MethodGet, "/v1/files.jsonl")
	assert.Equal(t, m.Files.Digest, shard.Digest(sha256.Sum256([]byte(got.body))))
	assert.Equal(t, `"`+m.Files.Digest.String()+`"`, got.header.Get("ETag"))
	assert.Equal(t, "application/x-tar", s.ask(t, http.MethodHead, "/v1/stream").header.Get("Content-Type"))
	assert.Equal(t, http.StatusNotFound, s.ask(t, http.MethodGet, "/v2/files.jsonl").status)
}
