package server_test

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/slots"
)

const probePath = "/py03/data1.bin"

func TestProbeIsAFileLikeAnother(t *testing.T) {
	s := newSite(t, open(t, t.TempDir()))
	got := s.get(t, probePath)
	assert.Equal(t, http.StatusOK, got.status)
	require.Len(t, got.body, 1_000_000)
	assert.Equal(t, "application/octet-stream", got.header.Get("Content-Type"))
	assert.Equal(t, tagOf(got.body), got.header.Get("ETag"))
	assert.Equal(t, "no-cache", got.header.Get("Cache-Control"))
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := w.Write([]byte(got.body))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	assert.GreaterOrEqual(t, packed.Len(), len(got.body), "it can be compressed")

	head := s.ask(t, http.MethodHead, probePath)
	assert.Equal(t, "1000000", head.header.Get("Content-Length"))
	assert.Empty(t, head.body)
	part := s.get(t, probePath, "Range", "bytes=-10")
	assert.Equal(t, http.StatusPartialContent, part.status)
	assert.Equal(t, got.body[999_990:], part.body)
	assert.Equal(t, http.StatusNotModified, s.get(t, probePath, "If-None-Match", tagOf(got.body)).status)
	assert.Equal(t, got.body, newSite(t, open(t, t.TempDir())).get(t, probePath).body, "another server has the same")
}

// A client that one of its servers refuses the probe gives up.
func TestProbeIsNeverRefused(t *testing.T) {
	dir := t.TempDir()
	large(t, dir, 1, largeSize)
	s := newLimitedSite(t, open(t, dir), slots.Limits{Connections: 1, ConnectionsPerClient: 1})
	leave := s.held(t)
	defer leave()
	require.Equal(t, http.StatusServiceUnavailable, s.get(t, shardPath).status)
	assert.Equal(t, http.StatusOK, s.get(t, probePath).status)
	assert.Equal(t, http.StatusServiceUnavailable, s.get(t, shardPath).status)
}
