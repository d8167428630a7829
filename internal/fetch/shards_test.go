package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

func TestFetchBringsEveryByte(t *testing.T) {
	for name, size := range map[string]int{
		"empty": 0, "one byte": 1, "one shard": shardSize, "one byte more": shardSize + 1,
		"many shards": 25*shardSize - 1,
	} {
		t.Run(name, func(t *testing.T) {
			data := content(1, size)
			pool := newPool(t, fetch.Options{}, newSite(t, content(9, 3), data))
			e, _ := newest(t, pool)
			var got memory
			require.NoError(t, fetchTo(t.Context(), pool, e, &got))
			assert.Equal(t, digestOf(data), digestOf(got.bytes()))
		})
	}
}

func TestFetchBeginsShardsInOrderAndBoundsThem(t *testing.T) {
	var now, most atomic.Int64
	s := newSite(t, content(1, 20*shardSize))
	s.spoilWith(only("/v1/shard", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		n := now.Add(1)
		defer now.Add(-1)
		for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
		}
		next.ServeHTTP(w, r)
	}))
	pool := newPool(t, fetch.Options{Concurrency: 3}, s)
	e, _ := newest(t, pool)
	require.NoError(t, fetchTo(t.Context(), pool, e, new(memory)))
	assert.LessOrEqual(t, most.Load(), int64(3))

	s.spoilWith(nil)
	before := s.asked("/v1/shard")
	require.NoError(t, newFetch(t, fetch.Options{Concurrency: 1}, new(memory), s))
	for i, path := range s.askedFor("/v1/shard")[before:] {
		assert.Equal(t, "/v1/"+shard.FileName(i+1), path)
	}
}

// newFetch fetches the newest version from sites by a new pool.
func newFetch(t *testing.T, opts fetch.Options, sink fetch.Sink, sites ...*site) error {
	t.Helper()
	pool := newPool(t, opts, sites...)
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	offers := pool.Offers()
	require.NotEmpty(t, offers)
	return fetchTo(t.Context(), pool, offers[len(offers)-1], sink)
}

// wrongs are ways to send a wrong shard.
func wrongs() map[string]spoiler {
	longer := func(data []byte) []byte { return append(data, 'x') }
	shorter := func(data []byte) []byte { return data[:len(data)-1] }
	chunked := func(change func([]byte) []byte) spoiler {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			_ = http.NewResponseController(w).Flush()
			tampered(change)(w, r, next)
		}
	}
	return map[string]spoiler{
		"flipped byte":                tampered(flipped),
		"too long, by its length":     tampered(longer),
		"too short, by its length":    tampered(shorter),
		"too short, without a length": chunked(shorter),
		"nothing":                     tampered(func([]byte) []byte { return nil }),
		"nothing, without a length":   chunked(func([]byte) []byte { return nil }),
		"another shard":               by(text(strings.Repeat("a", shardSize))),
		"a page":                      by(text("<html>log in</html>")),
	}
}

func TestFetchNamesTheUpstreamWithWrongBytes(t *testing.T) {
	for name, wrong := range wrongs() {
		t.Run(name, func(t *testing.T) {
			var log logbook
			var got memory
			data := content(1, 5*shardSize)
			guilty := newSite(t, data).spoilWith(only("/v1/shard_002.bin", wrong))
			good := newSite(t, data)
			opts := fetch.Options{Concurrency: 1, FastWait: never, Logger: log.logger()}
			require.NoError(t, newFetch(t, opts, &got, guilty, good))
			assert.Equal(t, data, got.bytes())
			assert.Len(t, log.with("level=WARN", "not asked again", "version=v1", "upstream="+guilty.URL), 1)
			assert.Empty(t, log.with("level=WARN", good.URL))
			assert.Equal(t, 2, guilty.asked("/v1/shard"), "asked again after its wrong bytes")
			assert.Equal(t, 4, good.asked("/v1/shard"))
		})
	}
}

func TestFetchKeepsNoWrongShard(t *testing.T) {
	for name, wrong := range wrongs() {
		t.Run(name, func(t *testing.T) {
			var got memory
			guilty := newSite(t, content(1, 3*shardSize)).spoilWith(only("/v1/shard_002.bin", wrong))
			err := newFetch(t, fetch.Options{Concurrency: 1, FastWait: never}, &got, guilty)
			require.ErrorIs(t, err, fetch.ErrIntegrity)
			require.ErrorContains(t, err, "shard 2")
			require.ErrorContains(t, err, guilty.URL)
			assert.Equal(t, content(1, 3*shardSize)[:shardSize], got.bytes())
		})
	}
}

func TestFetchAsksAgainInTheNextFetch(t *testing.T) {
	s := newSite(t, content(1, 10)).spoilWith(only("/v1/shard", first(tampered(flipped))))
	pool := newPool(t, fetch.Options{}, s)
	e, _ := newest(t, pool)
	require.ErrorIs(t, fetchTo(t.Context(), pool, e, new(memory)), fetch.ErrIntegrity)
	require.NoError(t, fetchTo(t.Context(), pool, e, new(memory)))
}

func TestFetchGoesOnAfterTrouble(t *testing.T) {
	data := content(1, 3*shardSize)
	half := func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", fmt.Sprint(shardSize))
		_, _ = w.Write(data[shardSize : shardSize+shardSize/2])
		_ = http.NewResponseController(w).Flush()
	}
	for name, trouble := range map[string]http.HandlerFunc{
		"reset at once":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"reset in the middle": func(w http.ResponseWriter, _ *http.Request) { half(w); panic(http.ErrAbortHandler) },
		"reset in the middle, without a length": func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(data[shardSize : shardSize+shardSize/2])
			panic(http.ErrAbortHandler)
		},
		"ended in the middle": func(w http.ResponseWriter, _ *http.Request) { half(w) },
		"503":                 status(http.StatusServiceUnavailable),
		"404":                 http.NotFound,
	} {
		t.Run(name, func(t *testing.T) {
			var log logbook
			var got memory
			opts := fetch.Options{Timeout: never, Concurrency: 1, Logger: log.logger()}
			once := newSite(t, data).spoilWith(only("/v1/shard_002.bin", first(by(trouble))))
			require.NoError(t, newFetch(t, opts, &got, once), "with the same upstream, later")
			assert.Equal(t, data, got.bytes())
			assert.Equal(t, 4, once.asked("/v1/shard"))

			got = memory{}
			opts.FastWait = never
			other := newSite(t, data)
			always := newSite(t, data).spoilWith(only("/v1/shard_002.bin", by(trouble)))
			require.NoError(t, newFetch(t, opts, &got, always, other), "with another, at once")
			assert.Equal(t, data, got.bytes())
			assert.Equal(t, 1, other.asked("/v1/shard_002"))
			assert.Empty(t, log.with("not asked again"), "trouble is not guilt")
		})
	}
}

func TestFetchGoesOnAfterSilence(t *testing.T) {
	for name, sent := range map[string]int64{"at once": 0, "in the midst": shardSize / 2} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, 3*shardSize, shardSize), func(t *testing.T, n *network) {
				silent := only("/v1/shard_002.bin", faultAt(sent, hang))
				opts := fetch.Options{Attempts: 2, Concurrency: 1, FastWait: 1, SlowWait: 1}
				once := n.host("once", megabyte).spoilWith(only("/v1/shard_002.bin", first(silent)))
				end, err := n.tryFetch(t, opts, 0, new(memory), once)
				require.NoError(t, err, "with the same upstream, later")
				assert.Len(t, once.asked(), 4)
				assert.Empty(t, end.log.with("not asked again"), "trouble is not guilt")

				opts.FastWait = never
				other, always := n.host("other", megabyte), n.host("always", megabyte).spoilWith(silent)
				end, err = n.tryFetch(t, opts, 0, new(memory), always, other)
				require.NoError(t, err, "with another, at once")
				assert.Empty(t, end.log.with("not asked again"), "trouble is not guilt")
				asked := slices.DeleteFunc(other.asked(), func(r request) bool { return r.path != "/v1/shard_002.bin" })
				assert.Len(t, asked, 1)
			})
		})
	}
}

func TestFetchOfASilentUpstreamGivesUpInTheEnd(t *testing.T) {
	simulate(t, publish(t, shardSize, shardSize), func(t *testing.T, n *network) {
		silent := n.host("silent", megabyte).spoilWith(by(silence))
		opts := fetch.Options{Timeout: 250 * time.Millisecond, Attempts: 3}
		_, err := n.tryFetch(t, opts, 0, new(memory), silent)
		require.ErrorContains(t, err, "sent nothing for 250ms")
		require.ErrorIs(t, err, fetch.ErrUnreachable)
		require.NotErrorIs(t, err, fetch.ErrIntegrity)
		assert.Len(t, silent.asked(), 3)
	})
}

func TestFetchGivesUpInTheEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		trouble  http.HandlerFunc
		contains string
		is       error
	}{
		"503":                    {status(http.StatusServiceUnavailable), "503", nil},
		"announced, but missing": {http.NotFound, "shard 1", fs.ErrNotExist},
		"breaking off":           {breakOff, "broke off", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, content(1, shardSize)).spoilWith(only("/v1/shard", by(tc.trouble)))
			err := newFetch(t, fetch.Options{Timeout: never, Attempts: 3}, new(memory), s)
			require.ErrorContains(t, err, tc.contains)
			if tc.is != nil {
				require.ErrorIs(t, err, tc.is)
			}
			require.NotErrorIs(t, err, fetch.ErrIntegrity)
			assert.Equal(t, 3, s.asked("/v1/shard"))
		})
	}
}

func TestFetchOutlivesAnUpstreamThatDies(t *testing.T) {
	var got memory
	data := content(1, 6*shardSize)
	dying := newSite(t, data)
	dying.spoilWith(only("/v1/shard_003.bin", func(http.ResponseWriter, *http.Request, http.Handler) {
		_ = dying.Listener.Close()
		panic(http.ErrAbortHandler)
	}))
	require.NoError(t, newFetch(t, fetch.Options{Concurrency: 1, FastWait: never}, &got, dying, newSite(t, data)))
	assert.Equal(t, data, got.bytes())
}

func TestFetchOfAVersionRetiredMeanwhile(t *testing.T) {
	var log logbook
	s := newSite(t, content(1, 2*shardSize))
	pool := newPool(t, fetch.Options{FastWait: never, Logger: log.logger()}, s)
	e, _ := newest(t, pool)
	s.retire(t, e.Version)
	require.ErrorIs(t, fetchTo(t.Context(), pool, e, new(memory)), fetch.ErrNoVersion)
	assert.Empty(t, log.with("level=WARN"), "no upstream is to blame")
}

func TestFetchOfAVersionRetiredByOneUpstream(t *testing.T) {
	data := content(1, 2*shardSize)
	retires, keeps := newSite(t, data), newSite(t, data)
	pool := newPool(t, fetch.Options{FastWait: never}, retires, keeps)
	e, _ := newest(t, pool)
	retires.retire(t, e.Version)
	var got memory
	require.NoError(t, fetchTo(t.Context(), pool, e, &got))
	assert.Equal(t, data, got.bytes())
}

func TestFetchOfAVersionReplacedMeanwhile(t *testing.T) {
	for name, sizes := range map[string][2]int{
		"same size": {2 * shardSize, 2 * shardSize}, "shorter": {2 * shardSize, shardSize / 2},
		"longer": {shardSize / 2, shardSize},
	} {
		t.Run(name, func(t *testing.T) {
			var log logbook
			s, restarted := newSite(t, content(1, sizes[0])), newSite(t, content(2, sizes[1]))
			pool := newPool(t, fetch.Options{Concurrency: 1, FastWait: never, Logger: log.logger()}, s)
			e, _ := newest(t, pool)
			s.spoilWith(by(restarted.Config.Handler.ServeHTTP))
			err := fetchTo(t.Context(), pool, e, new(memory))
			require.ErrorIs(t, err, fetch.ErrNoVersion)
			require.NotErrorIs(t, err, fetch.ErrIntegrity)
			assert.Empty(t, log.with("level=WARN"), "no upstream is to blame")
		})
	}
}

func TestFetchEndsAtOnceWhenTheSinkFails(t *testing.T) {
	full := errors.New("disk full")
	for name, sink := range map[string]*memory{
		"open": {openErr: full}, "write": {writeErr: full}, "commit": {commitErr: full},
	} {
		t.Run(name, func(t *testing.T) {
			var log logbook
			data := content(1, shardSize)
			before := map[string]int{"open": 0, "write": 1, "commit": 1}[name]
			a, b := newSite(t, data), newSite(t, data)
			opts := fetch.Options{FastWait: never, Logger: log.logger()}
			err := newFetch(t, opts, sink, a, b)
			require.ErrorIs(t, err, full)
			assert.Equal(t, before, a.asked("/v1/shard")+b.asked("/v1/shard"))
			assert.Empty(t, log.with("level=WARN"), "no upstream is to blame")
		})
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	enough := errors.New("had enough")
	for name, at := range map[string]http.HandlerFunc{
		"before the answer": silence,
		"in the middle": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(shardSize))
			_ = http.NewResponseController(w).Flush()
			silence(w, r)
		},
		"between two attempts": status(http.StatusServiceUnavailable),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancels := by(func(w http.ResponseWriter, r *http.Request) {
				cancel(enough)
				at(w, r)
			})
			s := newSite(t, content(1, 5*shardSize)).spoilWith(only("/v1/shard", cancels))
			pool := newPool(t, fetch.Options{Timeout: never, FastWait: never}, s)
			e, _ := newest(t, pool)
			err := fetchTo(ctx, pool, e, new(memory))
			require.ErrorIs(t, err, enough)
			require.NotErrorIs(t, err, fetch.ErrIntegrity)
		})
	}
}

func TestFetchOfNothingIsCancelledLikeAnyOther(t *testing.T) {
	pool := newPool(t, fetch.Options{}, newSite(t, content(1, shardSize)))
	e, _ := newest(t, pool)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, fetchTo(ctx, pool, e, new(memory)), context.Canceled)
}

func TestFetchChecksTheWholeAgainstTheDistribution(t *testing.T) {
	// Every shard agrees with the manifest, and the manifest states the digest of
	// the distribution; only the bytes do not have it.
	data := content(1, 3*shardSize)
	right := digestOf(data).String()
	lies := newSite(t, data)
	lies.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, "shard") {
			next.ServeHTTP(w, r)
			return
		}
		lie := func(text []byte) []byte { return []byte(strings.ReplaceAll(string(text), right, one.String())) }
		tampered(lie)(w, r, next)
	})
	err := newFetch(t, fetch.Options{FastWait: never}, new(memory), lies)
	require.ErrorIs(t, err, fetch.ErrIntegrity)
	require.ErrorContains(t, err, digestOf(data).String())
	require.ErrorContains(t, err, one.String())
}

func TestFetchChecksAnEmptyFileToo(t *testing.T) {
	empty := shard.EmptyDigest().String()
	lies := newSite(t, nil).spoilWith(tampered(func(text []byte) []byte {
		return []byte(strings.ReplaceAll(string(text), empty, one.String()))
	}))
	require.ErrorIs(t, newFetch(t, fetch.Options{FastWait: never}, new(memory), lies), fetch.ErrIntegrity)
}

// passingOff is a site that lists the digest of one file for another.
func passingOff(t *testing.T, file, as []byte) *site {
	t.Helper()
	is, listed := digestOf(file).String(), digestOf(as).String()
	return newSite(t, file).spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, "shard") {
			next.ServeHTTP(w, withoutQuery(r))
			return
		}
		tampered(func(text []byte) []byte { return []byte(strings.ReplaceAll(string(text), is, listed)) })(w, r, next)
	})
}

// A server whose manifest has the digests of other bytes, which it also serves, cannot keep
// a download from the server with the right ones.
func TestFetchDropsAManifestThatDoesNotFitTheFile(t *testing.T) {
	var log logbook
	var got memory
	data, other := content(1, 3*shardSize), content(2, 3*shardSize)
	evil, good := passingOff(t, other, data), newSite(t, data)
	require.NoError(t, newFetch(t, fetch.Options{FastWait: never, Logger: log.logger()}, &got, evil, good))
	assert.Equal(t, data, got.bytes())
	assert.Len(t, log.with("manifest not believed", evil.URL), 1)
	assert.Empty(t, log.with("manifest not believed", "upstream="+good.URL))

	err := newFetch(t, fetch.Options{FastWait: never}, new(memory), evil)
	require.ErrorIs(t, err, fetch.ErrIntegrity)
	require.ErrorContains(t, err, evil.URL)
}

// A relay, too, can check a manifest only when it holds the whole file.
func TestARelayMayFindABetterManifest(t *testing.T) {
	var log logbook
	var got memory
	data, other := content(1, 3*shardSize), content(2, 3*shardSize)
	evil, good := passingOff(t, other, data), newSite(t, data)
	asked := 0
	relay := newSite(t).spoilWith(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		if r.URL.Path == "/v1/manifest.json" {
			asked++
		}
		source := good
		if asked < 2 {
			w.Header().Set("Shardcast-Tier", "1")
			source = evil
		}
		source.Config.Handler.ServeHTTP(w, r)
	})
	require.NoError(t, newFetch(t, fetch.Options{FastWait: never, Concurrency: 1, Logger: log.logger()}, &got, relay))
	assert.Equal(t, data, got.bytes())
	assert.Len(t, log.with("manifest not believed", relay.URL), 1)
	assert.Empty(t, log.with("upstream not asked again"))
}

// Of a wrong manifest that several servers have, all shards are fetched once.
func TestAManifestThatDoesNotFitIsNotTriedAgainFromAnother(t *testing.T) {
	const shards = 3
	data, other := content(1, shards*shardSize), content(2, shards*shardSize)
	var log logbook
	var got memory
	one, two, good := passingOff(t, other, data), passingOff(t, other, data), newSite(t, data)
	opts := fetch.Options{Concurrency: 1, FastWait: never, Logger: log.logger()}
	require.NoError(t, newFetch(t, opts, &got, one, two, good))
	assert.Equal(t, data, got.bytes())
	assert.Len(t, log.with("manifest not believed"), 1)
	assert.Len(t, log.with("its manifest states the same", two.URL), 1)
	// By the right manifest each liar is asked for one shard.
	assert.LessOrEqual(t, one.asked("/v1/shard")+two.asked("/v1/shard"), shards+2, "%v %v", one.askedFor("/v1/"),
		two.askedFor("/v1/"))
}

func TestFetchUsesTheBytesOfTheSink(t *testing.T) {
	var log logbook
	var got memory
	data := content(1, 5*shardSize)
	got.keep(1, data[:shardSize])
	got.keep(2, flipped(content(1, 2*shardSize)[shardSize:]))
	got.keep(3, data[2*shardSize:3*shardSize])
	got.keep(4, data[3*shardSize:4*shardSize-1])
	s := newSite(t, data)
	require.NoError(t, newFetch(t, fetch.Options{Logger: log.logger()}, &got, s))
	assert.Equal(t, data, got.bytes())
	assert.ElementsMatch(t, []string{"/v1/shard_002.bin", "/v1/shard_004.bin", "/v1/shard_005.bin"},
		s.askedFor("/v1/shard"))
	assert.Len(t, log.with("level=WARN"), 1)
	assert.Len(t, log.with("shard is fetched again", "shard=2 ", "resumed=1000"), 1)
	assert.Len(t, log.with("shard fetched", "shard=4 ", "bytes=1 ", "resumed=999"), 1)
}

func TestFetchAsksForNoShardThatTheSinkHas(t *testing.T) {
	var got memory
	data := content(1, 2*shardSize)
	got.keep(1, data[:shardSize])
	got.keep(2, data[shardSize:])
	s := newSite(t, data)
	require.NoError(t, newFetch(t, fetch.Options{FastWait: never}, &got, s))
	assert.Empty(t, s.askedFor("/v1/shard"))
}

func TestFetchFromServersThatHaveGoneDown(t *testing.T) {
	s := newSite(t, content(1, shardSize))
	pool := newPool(t, fetch.Options{}, s)
	e, _ := newest(t, pool)
	s.Close()
	require.ErrorIs(t, fetchTo(t.Context(), pool, e, new(memory)), fetch.ErrUnreachable)
}

func TestFetchFindsAnUpstreamThatComesBack(t *testing.T) {
	data := content(1, shardSize)
	late := newSite(t, data).spoilWith(by(status(http.StatusBadGateway)))
	early := newSite(t, data)
	early.spoilWith(only("/v1/shard", func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		late.spoilWith(nil)
		early.spoilWith(by(status(http.StatusBadGateway)))
		early.Config.Handler.ServeHTTP(w, r)
	}))
	var got memory
	require.NoError(t, newFetch(t, fetch.Options{}, &got, early, late))
	assert.Equal(t, data, got.bytes())
}

func TestManyFetchesAtOnceShareAPool(t *testing.T) {
	data := content(1, 10*shardSize)
	pool := newPool(t, fetch.Options{Concurrency: 2}, newSite(t, data), newSite(t, data))
	e, _ := newest(t, pool)
	sinks := make([]memory, 8)
	errs := make(chan error, len(sinks))
	for i := range sinks {
		go func() { errs <- fetchTo(t.Context(), pool, e, &sinks[i]) }()
	}
	for range sinks {
		require.NoError(t, <-errs)
	}
	for i := range sinks {
		assert.Equal(t, data, sinks[i].bytes())
	}
}

func TestTamperedPassesOnAnUnchangedAnswer(t *testing.T) {
	// Tests of wrong bytes rely on it.
	rec := httptest.NewRecorder()
	tampered(func(b []byte) []byte { return b })(rec, httptest.NewRequest(http.MethodGet, "/", nil), text("as it is"))
	assert.Equal(t, "as it is", rec.Body.String())
}

// A shard that a reader waits for is begun before the rest, and few of the rest at a time
// while it waits.
func TestFetchBeginsFirstWithShardsThatReadersWaitFor(t *testing.T) {
	data := content(1, 9*shardSize)
	s := newSite(t, data)
	started := make(chan string, 100)
	free := make(chan struct{})
	finish := make(chan struct{})
	s.spoilWith(only("/shard_", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		started <- r.URL.Path
		held := finish
		if strings.HasSuffix(r.URL.Path, shard.FileName(7)) {
			held = free
		}
		select {
		case <-held:
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}))
	got := &memory{wanted: make(chan int, 10), asked: map[int]bool{7: true, 8: true}}
	got.wanted <- 7
	pool := newPool(t, fetch.Options{Concurrency: 5}, s)
	newest(t, pool)
	ended := make(chan error, 1)
	go func() {
		_, err := relayTo(t.Context(), pool, got)
		ended <- err
	}()
	begun := func(count int) (paths []string) {
		for range count {
			select {
			case path := <-started:
				paths = append(paths, path)
			case <-t.Context().Done():
			}
		}
		return paths
	}
	assert.ElementsMatch(t, []string{"/v1/shard_007.bin", "/v1/shard_001.bin", "/v1/shard_002.bin"}, begun(3))
	got.wanted <- 8 // a worker is there for it
	assert.Equal(t, []string{"/v1/shard_008.bin"}, begun(1))
	assert.Empty(t, started, "two are enough of shards without a waiting reader")
	close(free)
	close(finish)
	require.NoError(t, <-ended)
	assert.Equal(t, data, got.bytes())
}

// A middle may list a version a moment after another one. A fetch that has begun by then
// uses it, too.
func TestFetchUsesAnUpstreamThatGetsTheVersionMeanwhile(t *testing.T) {
	data := content(1, 4*shardSize)
	asked := make(chan struct{})
	var once sync.Once
	late := newSite(t, data)
	none := first(by(func(http.ResponseWriter, *http.Request) {}))
	late.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/distribution.txt"):
			none(w, r, next)
			return
		case strings.Contains(r.URL.Path, "/shard_"):
			once.Do(func() { close(asked) })
		}
		next.ServeHTTP(w, r)
	})
	waits := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		select {
		case <-asked:
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}
	early := newSite(t, data).spoilWith(only("/shard_", waits))
	var got memory
	require.NoError(t, newFetch(t, fetch.Options{Concurrency: 2}, &got, early, late))
	assert.Equal(t, data, got.bytes())
}
