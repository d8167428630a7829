package client_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/client/sitetest"
	"github.com/shardcast/shardcast/internal/fetch"
)

func TestAWriterGetsShardsWhileOthersCome(t *testing.T) {
	data := content(1, 5*sitetest.ShardSize)
	s := sitetest.New(t, data)
	read := make(chan struct{})
	s.SpoilShard("shard_005.bin", func(w http.ResponseWriter, _ *http.Request) {
		<-read
		_, _ = w.Write(data[4*sitetest.ShardSize:])
	})
	c, dir := newClient(t, s), t.TempDir()
	entry := find(t, c)
	from, to := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, _, err := c.Download(t.Context(), client.Download{Entry: entry, Dir: dir, To: to})
		ended <- errors.Join(err, to.Close())
	}()
	begin := make([]byte, 4*sitetest.ShardSize)
	_, err := io.ReadFull(from, begin)
	require.NoError(t, err)
	close(read)
	end, err := io.ReadAll(from)
	require.NoError(t, err)
	require.NoError(t, <-ended)
	assert.True(t, bytes.Equal(data, append(begin, end...)))
	assert.Empty(t, names(t, dir))
}

func TestAWriterIsToldThatTheWholeDiffers(t *testing.T) {
	data := content(1, 3*sitetest.ShardSize)
	s := sitetest.New(t, data)
	other := content(2, sitetest.ShardSize)
	resp, err := http.Get(s.URL + "/v1/manifest.json")
	require.NoError(t, err)
	defer resp.Body.Close()
	var manifest map[string]any
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&manifest))
	shards, _ := manifest["shards"].([]any)
	shards[2] = sitetest.DigestOf(other).String()
	text, err := json.Marshal(manifest)
	require.NoError(t, err)
	liar := sitetest.Serve(t, s.WithText(map[string]string{"/v1/manifest.json": string(text)}))
	liar.SpoilShard("shard_003.bin", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(other) })
	c := newClient(t, liar)
	var got bytes.Buffer
	_, _, err = c.Download(t.Context(), client.Download{Entry: find(t, c), Dir: t.TempDir(), To: &got})
	require.ErrorIs(t, err, fetch.ErrIntegrity)
	assert.ErrorContains(t, err, "bytes were written to the output before")
}

// full is a writer that takes nothing.
type full struct{}

var errFull = errors.New("no room")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestAWriterThatTakesNothingEndsTheDownload(t *testing.T) {
	s := sitetest.New(t, content(1, 5*sitetest.ShardSize))
	s.SpoilShard("shard_005.bin", sitetest.Silence)
	c := newClient(t, s)
	_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Dir: t.TempDir(), To: full{}})
	require.ErrorIs(t, err, errFull)
}
