package fetch_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

// plain takes the manifests of s away.
func plain(s *site) *site { return s.spoilWith(only("manifest.json", by(http.NotFound))) }

// manifestOf fetches the newest version, and returns the resulting manifest.
func manifestOf(t *testing.T, opts fetch.Options, sink fetch.Sink, sites ...*site) (shard.Manifest, error) {
	t.Helper()
	pool := newPool(t, opts, sites...)
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	offers := pool.Offers()
	require.NotEmpty(t, offers)
	m, _, err := pool.Fetch(t.Context(), fetch.Task{
		Entry: offers[len(offers)-1],
		Open:  func(context.Context, fetch.Manifest) (fetch.Sink, error) { return sink, nil },
	})
	return m, err
}

func TestFetchWithoutAManifestFindsOutHowTheFileIsCut(t *testing.T) {
	for _, size := range []int{
		0, 1, shardSize, shardSize + 1, 2 * shardSize, 3*shardSize - 1, 4 * shardSize,
		5 * shardSize, 17*shardSize + 5,
	} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			data := content(1, size)
			s := newSite(t, data)
			_, want := newest(t, newPool(t, fetch.Options{}, s))
			for name, count := range map[string]string{
				"":                                   "",
				"with the count in the distribution": "|" + fmt.Sprint(len(want.Shards)),
			} {
				plain(s)
				if count != "" && size > 0 {
					next := s.spoil
					s.spoilWith(func(w http.ResponseWriter, r *http.Request, h http.Handler) {
						if r.URL.Path == "/"+distfile.FileName {
							fmt.Fprintf(w, "v1: %s%s\n", want.Digest, count)
							return
						}
						next(w, r, h)
					})
				}
				var got memory
				m, err := manifestOf(t, fetch.Options{}, &got, s)
				require.NoError(t, err, name)
				assert.Equal(t, digestOf(data), digestOf(got.bytes()))
				assert.Equal(t, want.Size, m.Size)
				assert.Len(t, m.Shards, len(want.Shards))
				for i := range want.Shards {
					assert.Equal(t, want.Shards[i], m.Shards[i])
				}
				require.NoError(t, m.Validate())
			}
		})
	}
}

func TestFetchWithoutAManifestFromSitesThatHaveOne(t *testing.T) {
	data := content(1, 5*shardSize)
	without, with := plain(newSite(t, data)), newSite(t, data)
	var got memory
	require.NoError(t, newFetch(t, fetch.Options{FastWait: never}, &got, without, with))
	assert.Equal(t, data, got.bytes())
}

func TestFetchWithoutAManifestFetchesFromEachAloneWhenTheFileIsWrong(t *testing.T) {
	data := content(1, 6*shardSize)
	wrongIn := func(numbers ...int) *site {
		s := newSite(t, data)
		return s.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			for _, n := range numbers {
				if strings.HasSuffix(r.URL.Path, shard.FileName(n)) && r.Header.Get("Range") == "" {
					tampered(flipped)(w, r, next)
					return
				}
			}
			if strings.HasSuffix(r.URL.Path, "manifest.json") {
				next = http.NotFoundHandler()
			}
			next.ServeHTTP(w, r)
		})
	}
	for name, sites := range map[string][]*site{
		"the first":          {wrongIn(2), wrongIn()},
		"the first, in many": {wrongIn(1, 2, 3, 4, 5, 6), wrongIn()},
		"two of three":       {wrongIn(1), wrongIn(2), wrongIn()},
	} {
		t.Run(name, func(t *testing.T) {
			var log logbook
			var got memory
			m, err := manifestOf(t, fetch.Options{Concurrency: 1, FastWait: never, Logger: log.logger()}, &got,
				sites...)
			require.NoError(t, err)
			assert.Equal(t, data, got.bytes())
			require.NoError(t, m.Validate())
			for i, s := range sites {
				blamed := log.with("level=WARN", "not asked again", "upstream="+s.URL)
				assert.Len(t, blamed, map[bool]int{true: 1}[i < len(sites)-1], "all but the last are wrong")
			}
			assert.Empty(t, log.with("level=WARN", "shard is fetched again"), "no digest can show which shard is wrong")
		})
	}
	t.Run("all, in different shards", func(t *testing.T) {
		one, two := wrongIn(1), wrongIn(2)
		_, err := manifestOf(t, fetch.Options{FastWait: never}, new(memory), one, two)
		require.ErrorIs(t, err, fetch.ErrIntegrity)
		require.ErrorContains(t, err, one.URL+" alone")
		require.ErrorContains(t, err, two.URL+" alone")
	})
	t.Run("all, in the same shard", func(t *testing.T) {
		_, err := manifestOf(t, fetch.Options{FastWait: never}, new(memory), wrongIn(2), wrongIn(2))
		require.ErrorIs(t, err, fetch.ErrIntegrity)
	})
	t.Run("the only one", func(t *testing.T) {
		s := wrongIn(2)
		_, err := manifestOf(t, fetch.Options{FastWait: never, Concurrency: 1}, new(memory), s)
		require.ErrorIs(t, err, fetch.ErrIntegrity)
		require.ErrorContains(t, err, s.URL)
		assert.Equal(t, 1, s.asked("/v1/shard_005"), "all of it was fetched from that one already")
	})
}

// A server that has sent wrong bytes before is not tried alone, which would cost as much as
// all of the file.
func TestFetchWithoutAManifestDoesNotTryABadServerAlone(t *testing.T) {
	data := content(1, 4*shardSize)
	// Sites have no manifest, and each spoils one shard where it is asked for in full.
	spoiling := func(file string, h spoiler) (*site, *atomic.Int64) {
		var inFull atomic.Int64
		return newSite(t, data).spoilWith(only("/v1/", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			switch {
			case strings.HasSuffix(r.URL.Path, "manifest.json"):
				http.NotFound(w, r)
				return
			case r.Header.Get("Range") == "":
				inFull.Add(1)
				only(file, h)(w, r, next)
				return
			}
			next.ServeHTTP(w, r)
		})), &inFull
	}
	var log logbook
	var got memory
	short, asked := spoiling(shard.FileName(1), first(tampered(func(data []byte) []byte { return data[1:] })))
	flips, _ := spoiling(shard.FileName(2), tampered(flipped))
	opts := fetch.Options{Concurrency: 1, FastWait: never, Logger: log.logger()}
	_, err := manifestOf(t, opts, &got, short, flips, plain(newSite(t, data)))
	require.NoError(t, err)
	assert.Equal(t, data, got.bytes())
	assert.Len(t, log.with("not asked again", "upstream="+short.URL), 1)
	assert.Len(t, log.with("not asked again", "upstream="+flips.URL), 1)
	assert.Equal(t, int64(1), asked.Load(), "asked again after it was found out")
}

// The partial data of an earlier fetch cannot be verified by itself. If the whole is wrong,
// fetching it again shows that.
func TestFetchWithoutAManifestMendsPartialData(t *testing.T) {
	data := content(1, 4*shardSize)
	var got memory
	got.keep(1, data[:shardSize])
	got.keep(2, flipped(content(1, 2*shardSize)[shardSize:]))
	require.NoError(t, newFetch(t, fetch.Options{FastWait: never}, &got, plain(newSite(t, data))))
	assert.Equal(t, data, got.bytes())
}

func TestFetchWithoutAManifestFromHostileUpstreams(t *testing.T) {
	data := content(1, 3*shardSize)
	for name, spoil := range map[string]spoiler{
		"no length": only("shard", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(data)
		}),
		"a last shard that is too long": only("shard_003", by(text(strings.Repeat("a", shardSize+1)))),
		"an enormous shard": only("shard", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Range", "bytes 0-0/9223372036854775807")
			w.WriteHeader(http.StatusPartialContent)
		}),
		"empty shards": only("shard", by(text(""))),
		"no shards":    only("shard", by(http.NotFound)),
	} {
		t.Run(name, func(t *testing.T) {
			hostile := newSite(t, data)
			hostile.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if strings.HasSuffix(r.URL.Path, "manifest.json") {
					http.NotFound(w, r)
					return
				}
				spoil(w, r, next)
			})
			err := newFetch(t, fetch.Options{Attempts: 1}, new(memory), hostile)
			require.Error(t, err)
			assert.Less(t, hostile.asked("/v1/shard"), 300)
		})
	}
}

// A server without some of the shards seems to have a shorter file; another server may have
// all of it.
func TestFetchWithoutAManifestWhereOneHasFewerShards(t *testing.T) {
	data := content(1, 6*shardSize)
	for name, order := range map[string]bool{"first": true, "last": false} {
		t.Run(name, func(t *testing.T) {
			fewer, whole := newSite(t, data), plain(newSite(t, data))
			fewer.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if strings.HasSuffix(r.URL.Path, "manifest.json") || r.URL.Path > "/v1/shard_003.bin" &&
					strings.Contains(r.URL.Path, "shard") {
					next = http.NotFoundHandler()
				}
				next.ServeHTTP(w, r)
			})
			sites := []*site{fewer, whole}
			if !order {
				sites = []*site{whole, fewer}
			}
			var got memory
			require.NoError(t, newFetch(t, fetch.Options{FastWait: never}, &got, sites...))
			assert.Equal(t, data, got.bytes())
		})
	}
}
