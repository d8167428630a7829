package fetch_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

// byBLAKE3 makes s offer data as v1 like a server of the Python package 0.3.
func byBLAKE3(s *site, data []byte) *site {
	return s.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		switch {
		case name == distfile.FileName:
			fmt.Fprintf(w, "v1: %s|%d\n", shard.Digest(blake3.Sum256(data)), (len(data)+shardSize-1)/shardSize)
		case strings.HasPrefix(name, "shard_") && len(name) == len(shard.LongFileName(1)):
			next.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

func TestFetchTakesAFileThatIsKnownByItsBLAKE3(t *testing.T) {
	for _, size := range []int{0, 1, shardSize, shardSize + 1, 5*shardSize + 7} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			data := content(1, size)
			s := newSite(t, data)
			_, want := newest(t, newPool(t, fetch.Options{}, s))
			want.BLAKE3 = blake3.Sum256(data)
			var got memory
			m, err := manifestOf(t, fetch.Options{}, &got, byBLAKE3(s, data))
			require.NoError(t, err)
			assert.Equal(t, digestOf(data), digestOf(got.bytes()))
			assert.Equal(t, want.Digest, m.Digest)
			assert.Equal(t, want.BLAKE3, m.BLAKE3)
			assert.Len(t, m.Shards, len(want.Shards))
			require.NoError(t, m.Validate())
		})
	}
}

// stating makes s state digest as the BLAKE3 of v1.
func stating(s *site, digest shard.Digest) *site {
	s.spoilPath("/v1/BLAKE3", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(shard.BLAKE3Text(digest)) })
	return s
}

func TestFetchRefusesAFileWithAnotherBLAKE3(t *testing.T) {
	s := byBLAKE3(newSite(t, content(1, 3*shardSize)), content(2, 3*shardSize))
	_, err := manifestOf(t, fetch.Options{FastWait: never}, new(memory), s)
	require.ErrorIs(t, err, fetch.ErrIntegrity)
}

// Servers list a file by different digests: it comes by the manifest of one that has one.
func TestFetchTakesAManifestThatStatesBothDigests(t *testing.T) {
	data := content(1, 8*shardSize)
	for order := range 2 {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			without, with := byBLAKE3(newSite(t, data), data), stating(newSite(t, data), blake3.Sum256(data))
			_, want := newest(t, newPool(t, fetch.Options{}, with))
			sites := []*site{with, without}
			if order == 0 {
				sites = []*site{without, with}
				want.BLAKE3 = blake3.Sum256(data) // by which the version is listed
			}
			pool := newPool(t, fetch.Options{FastWait: never}, sites...)
			require.NoError(t, pool.Refresh(t.Context(), fetch.All))
			var got memory
			task := fetch.Task{
				Entry: pool.Offers()[0],
				Open:  func(context.Context, fetch.Manifest) (fetch.Sink, error) { return &got, nil },
			}
			m, _, err := pool.Fetch(t.Context(), task)
			require.NoError(t, err)
			assert.Equal(t, data, got.bytes())
			assert.Equal(t, want, m)
			assert.Zero(t, without.asked("/v1/shard_"))
			assert.True(t, pool.Offered(task.Entry))
			got2, err := pool.Manifest(t.Context(), task.Entry)
			require.NoError(t, err)
			assert.Equal(t, want, got2)
		})
	}
}

// Two honest servers have no manifest. A third one has another file, and a manifest.
func TestAManifestOfAnotherFileReplacesNoneThatMostServersList(t *testing.T) {
	data, other := content(1, 8*shardSize), content(2, 8*shardSize)
	for name, honest := range map[string]func(s *site) *site{
		"listed by SHA-256": plain,
		"listed by BLAKE3":  func(s *site) *site { return byBLAKE3(s, data) },
	} {
		for lie, blake3 := range map[string]shard.Digest{"": {}, ", and the BLAKE3 is a lie": blake3.Sum256(data)} {
			t.Run(name+lie, func(t *testing.T) {
				liar := newSite(t, other)
				if lie != "" {
					stating(liar, blake3)
				}
				sites := []*site{liar, honest(newSite(t, data)), honest(newSite(t, data))}
				pool := newPool(t, fetch.Options{FastWait: never}, sites...)
				require.NoError(t, pool.Refresh(t.Context(), fetch.All))
				e := pool.Offers()[0]
				for range 2 {
					var got *memory
					open := func(context.Context, fetch.Manifest) (fetch.Sink, error) {
						got = new(memory)
						return got, nil
					}
					_, _, err := pool.Fetch(t.Context(), fetch.Task{Entry: e, Open: open})
					require.NoError(t, err)
					assert.True(t, bytes.Equal(data, got.bytes()), "the liar's file is delivered")
					assert.True(t, e.Same(pool.Offers()[0]), "another digest counts after a fetch")
				}
			})
		}
	}
}

func TestFetchTakesTheFirstDigestWhereNoServerHasAManifest(t *testing.T) {
	first, second := content(1, 2*shardSize), content(2, 2*shardSize)
	var got memory
	_, err := manifestOf(t, fetch.Options{FastWait: never}, &got, byBLAKE3(newSite(t, first), first),
		byBLAKE3(newSite(t, second), second))
	require.NoError(t, err)
	assert.Equal(t, first, got.bytes())
}

func TestAWrongBLAKE3OfAServerDecidesNothing(t *testing.T) {
	data := content(1, 2*shardSize)
	s := stating(newSite(t, data), shard.Digest{1})
	e, _ := newest(t, newPool(t, fetch.Options{}, s))
	pool := newPool(t, fetch.Options{FastWait: never}, s)
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	m, _, err := pool.Fetch(t.Context(), fetch.Task{
		Entry: e, Audience: new(memory).readers, BLAKE3: true,
		Open: func(ctx context.Context, m fetch.Manifest) (fetch.Sink, error) {
			stated, err := pool.BLAKE3(ctx, m)
			assert.Equal(t, shard.Digest{1}, stated)
			return new(memory), err
		},
	})
	require.NoError(t, err)
	assert.Equal(t, shard.Digest(blake3.Sum256(data)), m.BLAKE3)
}

func TestAFileWithTwoDigestsIsOfferedByOne(t *testing.T) {
	data := content(1, shardSize)
	old, ours := byBLAKE3(newSite(t, data), data), newSite(t, data)
	pool := newPool(t, fetch.Options{}, old, ours)
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	_, m := newest(t, newPool(t, fetch.Options{}, ours))
	m.BLAKE3 = blake3.Sum256(data)
	by := func(d shard.Digest) distfile.Entry { return distfile.Entry{Version: 1, Digest: d} }
	assert.True(t, pool.Offers()[0].Same(by(m.BLAKE3)), "the first one counts")
	pool.Know(1, m)
	assert.True(t, pool.Offers()[0].Same(by(m.Digest)))
	assert.Equal(t, by(m.Digest), pool.Canonical(by(m.BLAKE3)))
	assert.Equal(t, by(m.Digest), pool.Canonical(by(m.Digest)))
	pool.Know(2, shard.Manifest{Digest: m.Digest})
	other := distfile.Entry{Version: 2}
	assert.Equal(t, other, pool.Canonical(other), "no BLAKE3 is that of no file")
}

// A cache on the way must distinguish a file from another one that comes back under the same
// number.
func TestFetchAsksForShardsByTheirDigests(t *testing.T) {
	data := content(1, 2*shardSize)
	s := newSite(t, data)
	_, m := newest(t, newPool(t, fetch.Options{}, s))
	var mu sync.Mutex
	asked := make(map[string]string)
	note := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		mu.Lock()
		defer mu.Unlock()
		asked[r.URL.Path] = r.URL.RawQuery
		next.ServeHTTP(w, r)
	}
	s.spoilWith(note)
	require.NoError(t, newFetch(t, fetch.Options{}, new(memory), s))
	assert.Equal(t, map[string]string{
		"/distribution.txt": "",
		"/v1/manifest.json": "",
		"/v1/shard_001.bin": "digest=" + m.Shards[0].String(),
		"/v1/shard_002.bin": "digest=" + m.Shards[1].String(),
	}, asked)

	clear(asked)
	plain(s)
	spoil := s.spoil
	s.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		note(httptest.NewRecorder(), r, http.NotFoundHandler())
		spoil(w, r, next)
	})
	require.NoError(t, newFetch(t, fetch.Options{}, new(memory), s))
	assert.Empty(t, asked["/v1/shard_001.bin"])
	assert.Empty(t, asked["/v1/shard_002.bin"])
}

// A held file keeps both digests after very many others.
func TestTheNewestFilesStayKnownByBothDigests(t *testing.T) {
	pool := newPool(t, fetch.Options{}, newSite(t))
	by := func(v, kind int) shard.Digest { return digestOf(fmt.Append(nil, v, kind)) }
	for v := 1; v <= distfile.MaxEntries+1; v++ {
		pool.Know(shard.Version(v), shard.Manifest{Digest: by(v, 1), BLAKE3: by(v, 3)})
	}
	for v, kind := range map[int]int{1: 3, 2: 1, distfile.MaxEntries: 1, distfile.MaxEntries + 1: 1} {
		got := pool.Canonical(distfile.Entry{Version: shard.Version(v), Digest: by(v, 3)})
		assert.Equal(t, by(v, kind), got.Digest, "v%d", v)
	}
}
