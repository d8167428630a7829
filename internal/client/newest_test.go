package client_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/client/sitetest"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

// drip answers with a byte now and then, and never ends.
func drip(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "1000")
	for r.Context().Err() == nil {
		_, _ = w.Write([]byte{0})
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// newest downloads the newest version of sites, which get on within a moment or not at all.
func newest(t *testing.T, sites ...*site) (v shard.Version, data []byte, err error) {
	t.Helper()
	opts := fetch.Options{
		Patience: 50 * time.Millisecond, Attempts: 2, FastWait: time.Millisecond, SlowWait: time.Millisecond,
	}
	for _, s := range sites {
		u, err := url.Parse(s.URL)
		require.NoError(t, err)
		opts.Upstreams = append(opts.Upstreams, u)
	}
	pool, err := fetch.New(opts)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	c := nodeOf(pool, silent)
	e := find(t, c)
	path := filepath.Join(t.TempDir(), "out.bin")
	got, _, _, err := c.Newest(t.Context(), e, func(e distfile.Entry) client.Download {
		return client.Download{Entry: e, Path: path}
	})
	if err != nil {
		return got.Version, nil, err
	}
	data, err = os.ReadFile(path)
	require.NoError(t, err)
	return got.Version, data, nil
}

func TestTheNewestVersionThatCanBeHadIsTaken(t *testing.T) {
	t.Parallel()
	old, fresh := content(1, 3*shardSize), content(2, 3*shardSize)
	of := func(version string, h http.HandlerFunc) *site {
		inner := newSite(t, old, fresh)
		return sitetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, version) && strings.Contains(r.URL.Path, "shard") {
				h(w, r)
				return
			}
			inner.Config.Handler.ServeHTTP(w, r)
		}))
	}
	gone := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }
	garbage := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, shardSize)) }
	for name, tc := range map[string]struct {
		sites []*site
		want  shard.Version
	}{
		"all is well":                     {[]*site{of("/v9/", gone)}, 2},
		"the newest drips":                {[]*site{of("/v2/", drip)}, 1},
		"the newest is broken":            {[]*site{of("/v2/", gone)}, 1},
		"the newest is wrong":             {[]*site{of("/v2/", garbage)}, 1},
		"the newest drips from the first": {[]*site{of("/v2/", drip), newSite(t, old)}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, data, err := newest(t, tc.sites...)
			require.NoError(t, err)
			assert.Equal(t, tc.want, v)
			assert.Equal(t, map[shard.Version][]byte{1: old, 2: fresh}[v], data)
		})
	}
	t.Run("nothing can be had", func(t *testing.T) {
		t.Parallel()
		_, _, err := newest(t, of("/v", garbage))
		require.ErrorIs(t, err, fetch.ErrIntegrity)
		assert.ErrorContains(t, err, "v2", "the error is not that of the newest version")
	})
}

// The manifest's SHA-256 is that of the file which is there, and the BLAKE3 beside it the listed one.
func TestAManifestCannotPassOffAnOlderFileAsTheListedOne(t *testing.T) {
	data, old := content(1, 3*shardSize), content(2, 3*shardSize)
	listed := shard.Digest(blake3.Sum256(data))
	text, err := json.Marshal(map[string]any{
		"name": "w.bin", "size": len(old), "shard_size": len(old), "digest": digestOf(old),
		"shards": []shard.Digest{digestOf(old)},
	})
	require.NoError(t, err)
	s := sitetest.Serve(t, newSite(t, data).WithText(map[string]string{
		"/distribution.txt": "v1: " + listed.String() + "\n", "/v1/manifest.json": string(text),
		"/v1/BLAKE3": listed.String() + "\n",
	}))
	path := filepath.Join(t.TempDir(), "w.bin")
	require.NoError(t, os.WriteFile(path, old, 0o600))
	c := newClient(t, s)
	_, _, err = c.Download(t.Context(), client.Download{Entry: find(t, c), Path: path})
	require.Error(t, err)
}
