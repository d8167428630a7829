package middle

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// A version may be opened by the wrong manifest of one upstream, and then arrive from
// another one that has none.
func TestAnArrivalEndsWhenAnotherManifestIsTried(t *testing.T) {
	data := []byte("the file")
	right, wrong := shard.Digest(sha256.Sum256(data)), shard.Digest(sha256.Sum256(nil))
	size := int64(len(data))
	manifest, err := shard.Manifest{
		Name: "file", Date: time.Unix(1, 0), Size: size, ShardSize: size / 2, Digest: right,
		Shards: []shard.Digest{wrong, wrong},
	}.Encode()
	require.NoError(t, err)
	serve := func(manifest string) *url.URL {
		answers := map[string]string{
			"/distribution.txt": fmt.Sprintf("v1: %s\n", right), "/v1/manifest.json": manifest,
			"/v1/shard_001.bin": "the ", "/v1/shard_002.bin": "file",
		}
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if answer := answers[r.URL.Path]; answer != "" {
				fmt.Fprint(w, answer)
			} else {
				http.NotFound(w, r)
			}
		}))
		t.Cleanup(s.Close)
		u, err := url.Parse(s.URL)
		require.NoError(t, err)
		return u
	}
	liar, plain := serve(string(manifest)), serve("")

	logger := slog.New(slog.DiscardHandler)
	pool, err := fetch.New(fetch.Options{
		Upstreams: []*url.URL{liar, plain}, Logger: logger,
		Attempts: 2, FastWait: time.Millisecond, SlowWait: time.Millisecond,
	})
	require.NoError(t, err)
	defer pool.Close()
	st, err := store.Open(t.TempDir(), store.Middle)
	require.NoError(t, err)
	defer func() { assert.NoError(t, st.Close()) }()
	require.NoError(t, pool.Refresh(t.Context(), time.Minute))

	f := fetcher{
		dir: directory{store: st, logger: logger}, board: relay.NewBoard(), pool: pool,
		announced: new(announced), logger: logger,
	}
	require.NoError(t, f.fetch(t.Context(), pool.Offers()[0], nil))
	assert.Empty(t, f.board.Arriving())
	listed, _ := f.board.Listed()
	assert.Empty(t, listed)
}
