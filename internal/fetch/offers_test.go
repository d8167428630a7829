package fetch_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

func digestOf(data []byte) shard.Digest { return sha256.Sum256(data) }

// digests for distributions whose files are never fetched.
var (
	one   = digestOf([]byte("one"))
	two   = digestOf([]byte("two"))
	three = digestOf([]byte("three"))
)

// listing is a site whose distribution.txt is s.
func listing(t *testing.T, s string) *site {
	t.Helper()
	return newSite(t).spoilPath("/distribution.txt", text(s))
}

// held is a site that answers once answer is closed.
func held(t *testing.T, answer <-chan struct{}, files ...[]byte) *site {
	t.Helper()
	return newSite(t, files...).spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		<-answer
		next.ServeHTTP(w, r)
	})
}

func TestRefreshDoesNotWaitForOneThatHangs(t *testing.T) {
	answer := make(chan struct{})
	pool := newPool(t, fetch.Options{Timeout: never}, held(t, answer, content(1, 10), content(2, 10)),
		newSite(t, content(1, 10)))
	require.NoError(t, pool.Refresh(t.Context(), time.Millisecond))
	assert.Len(t, pool.Offers(), 1)
	close(answer)
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	assert.Len(t, pool.Offers(), 2)
}

func TestRefreshUsesLateAnswers(t *testing.T) {
	answer := make(chan struct{})
	pool := newPool(t, fetch.Options{Timeout: never}, held(t, answer, content(1, 10), content(2, 10)),
		newSite(t, content(1, 10)))
	require.NoError(t, pool.Refresh(t.Context(), time.Millisecond))
	close(answer)
	require.Eventually(t, func() bool { return len(pool.Offers()) == 2 }, time.Minute, time.Millisecond)
}

func TestRefreshWaitsForTheTimeoutAtMost(t *testing.T) {
	simulate(t, publish(t, 10, 10), func(t *testing.T, n *network) {
		silent := n.host("silent", megabyte).answer("/distribution.txt", silence)
		pool := n.client(t, fetch.Options{Timeout: 300 * time.Millisecond}, 0, silent, n.host("good", megabyte))
		start := time.Now()
		require.NoError(t, pool.Refresh(t.Context(), fetch.All))
		assert.Len(t, pool.Offers(), 1)
		assert.Equal(t, 300*time.Millisecond, time.Since(start))
	})
}

func TestRefreshReportsThatNoServerAnswers(t *testing.T) {
	a, b := newSite(t), newSite(t)
	a.Close()
	b.Close()
	pool := newPool(t, fetch.Options{}, a, b)
	err := pool.Refresh(t.Context(), fetch.All)
	require.ErrorIs(t, err, fetch.ErrUnreachable)
	require.ErrorContains(t, err, a.URL)
	require.ErrorContains(t, err, b.URL)
	assert.Empty(t, pool.Offers())
}

func TestRefreshDistinguishesSilenceFromARefusal(t *testing.T) {
	down := newSite(t)
	down.Close()
	for name, tc := range map[string]struct {
		code int
		want string
	}{
		"not found":  {http.StatusNotFound, fs.ErrNotExist.Error()},
		"overloaded": {http.StatusServiceUnavailable, "503"},
		"teapot":     {http.StatusTeapot, "418"},
		"no content": {http.StatusNoContent, "204"},
	} {
		t.Run(name, func(t *testing.T) {
			pool := newPool(t, fetch.Options{}, down, newSite(t).spoilWith(by(status(tc.code))))
			err := pool.Refresh(t.Context(), fetch.All)
			require.ErrorContains(t, err, tc.want)
			assert.NotErrorIs(t, err, fetch.ErrUnreachable, "one did answer")
		})
	}
}

func TestRefreshGivesUpAServerThatAcceptsAndIsSilent(t *testing.T) {
	pool := newPool(t, fetch.Options{Timeout: 50 * time.Millisecond}, newSite(t).spoilWith(by(silence)))
	require.ErrorIs(t, pool.Refresh(t.Context(), fetch.All), fetch.ErrUnreachable)
}

func TestRefreshGivesUpAServerThatDrips(t *testing.T) {
	simulate(t, publish(t, 10, 10), func(t *testing.T, n *network) {
		drips := n.host("drips", megabyte).answer("/distribution.txt", func(w http.ResponseWriter, r *http.Request) {
			drip := time.NewTicker(10 * time.Millisecond)
			defer drip.Stop()
			for r.Context().Err() == nil {
				fmt.Fprintln(w)
				_ = http.NewResponseController(w).Flush()
				<-drip.C
			}
		})
		pool := n.client(t, fetch.Options{Timeout: 300 * time.Millisecond}, 0, drips)
		require.ErrorContains(t, pool.Refresh(t.Context(), fetch.All), "not answered within")
	})
}

func TestRefreshEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("had enough")
	silent := newSite(t).spoilWith(by(func(w http.ResponseWriter, r *http.Request) {
		cancel(enough)
		silence(w, r)
	}))
	pool := newPool(t, fetch.Options{Timeout: never}, silent)
	require.ErrorIs(t, pool.Refresh(ctx, fetch.All), enough)
}

func TestRefreshOfOneCallerOutlivesAnothers(t *testing.T) {
	answer := make(chan struct{})
	asked := make(chan struct{}, 2)
	s := newSite(t, content(1, 10)).spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		asked <- struct{}{}
		<-answer
		next.ServeHTTP(w, r)
	})
	pool := newPool(t, fetch.Options{Timeout: never}, s)
	ctx, cancel := context.WithCancel(t.Context())
	leaves, stays := make(chan error, 1), make(chan error, 1)
	go func() { leaves <- pool.Refresh(ctx, fetch.All) }()
	<-asked
	go func() { stays <- pool.Refresh(t.Context(), fetch.All) }()
	cancel()
	require.ErrorIs(t, <-leaves, context.Canceled)
	close(answer)
	require.NoError(t, <-stays)
	assert.Len(t, pool.Offers(), 1)
}

func TestReachAsksAsOftenAsTheOptionsAllow(t *testing.T) {
	down := newSite(t).spoilWith(by(status(http.StatusBadGateway)))
	require.ErrorContains(t, newPool(t, fetch.Options{Attempts: 3}, down).Reach(t.Context()), "502")
	assert.Equal(t, 3, down.asked(""))
	back := newSite(t, content(1, 10)).spoilWith(first(by(status(http.StatusBadGateway))))
	require.NoError(t, newPool(t, fetch.Options{Attempts: 3}, back).Reach(t.Context()))
	assert.Equal(t, 2, back.asked(""))
}

func TestReachEndsWithItsContextWhileItWaits(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	down := newSite(t).spoilWith(by(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		cancel()
	}))
	require.ErrorIs(t, newPool(t, fetch.Options{FastWait: never}, down).Reach(ctx), context.Canceled)
}

func TestOffersAreThoseOfMostUpstreams(t *testing.T) {
	for name, tc := range map[string]struct {
		texts []string
		want  []distfile.Entry
	}{
		"nothing anywhere": {[]string{"", ""}, nil},
		"ascending, from all": {
			[]string{fmt.Sprintf("v10: %s\nv2: %s\n", two, one), fmt.Sprintf("v3: %s\n", three)},
			[]distfile.Entry{{Version: 2, Digest: one}, {Version: 3, Digest: three}, {Version: 10, Digest: two}},
		},
		"two against the first": {
			[]string{fmt.Sprintf("v1: %s\n", one), fmt.Sprintf("v1: %s\n", two), fmt.Sprintf("v1: %s\n", two)},
			[]distfile.Entry{{Version: 1, Digest: two}},
		},
		"a tie goes to the first": {
			[]string{fmt.Sprintf("v1: %s\n", two), fmt.Sprintf("v1: %s\n", one)},
			[]distfile.Entry{{Version: 1, Digest: two}},
		},
		"also among four": {
			[]string{
				fmt.Sprintf("v1: %s\n", three), fmt.Sprintf("v1: %s\n", two), fmt.Sprintf("v1: %s\n", one),
				fmt.Sprintf("v1: %s\n", one), fmt.Sprintf("v1: %s\n", two),
			},
			[]distfile.Entry{{Version: 1, Digest: two}},
		},
		"the count of shards does not split a vote": {
			[]string{fmt.Sprintf("v1: %s\n", one), fmt.Sprintf("v1: %s|7\n", two), fmt.Sprintf("v1: %s\n", two)},
			[]distfile.Entry{{Version: 1, Digest: two, Count: 7}},
		},
		"each version has its own vote": {
			[]string{
				fmt.Sprintf("v1: %s\nv2: %s\n", one, one), fmt.Sprintf("v1: %s\nv2: %s\n", two, one),
				fmt.Sprintf("v1: %s\nv2: %s\n", two, three),
			},
			[]distfile.Entry{{Version: 1, Digest: two}, {Version: 2, Digest: one}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var sites []*site
			for _, s := range tc.texts {
				sites = append(sites, listing(t, s))
			}
			pool := newPool(t, fetch.Options{}, sites...)
			require.NoError(t, pool.Refresh(t.Context(), fetch.All))
			assert.Equal(t, tc.want, pool.Offers())
		})
	}
}

func TestOffersKeepTheLastListOfASilentUpstream(t *testing.T) {
	var log logbook
	a := newSite(t, content(1, 10), content(2, 10))
	b := newSite(t, content(1, 10))
	pool := newPool(t, fetch.Options{Logger: log.logger()}, a, b)
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	a.spoilWith(by(status(http.StatusBadGateway)))
	for range 2 {
		require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	}
	assert.Len(t, pool.Offers(), 2)
	assert.Len(t, log.with("upstream is down", a.URL), 1, "logged each time")
	a.spoilWith(nil)
	a.retire(t, 2)
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	assert.Len(t, pool.Offers(), 1)
	assert.Len(t, log.with("upstream is back", a.URL), 1)
}

func TestRefreshSkipsBadLinesAndNamesThem(t *testing.T) {
	var log logbook
	s := listing(t, strings.Join([]string{
		fmt.Sprintf("v1: %s", one),
		"../evil: " + two.String(),
		fmt.Sprintf("v2: %s\r", two),
		fmt.Sprintf("v1: %s", three),
		"v3: " + strings.ToUpper(three.String()),
		fmt.Sprintf("v4: %s\x00", three),
		fmt.Sprintf("\x00v5: %s", three),
		"",
		fmt.Sprintf("v01: %s", three),
		fmt.Sprintf("v6:%s|12", three),
		fmt.Sprintf("v7: %s|many", three),
	}, "\n"))
	pool := newPool(t, fetch.Options{Logger: log.logger()}, s)
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	assert.Equal(t, []distfile.Entry{
		{Version: 1, Digest: one}, {Version: 2, Digest: two}, {Version: 6, Digest: three, Count: 12},
	}, pool.Offers())
	for line := 1; line <= 11; line++ {
		want := 0
		switch line {
		case 2, 4, 5, 6, 7, 9, 11:
			want = 1
		}
		assert.Len(t, log.with("level=WARN", "line skipped", s.URL, fmt.Sprintf("line %d:", line)), want, "line %d",
			line)
	}
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	assert.Len(t, log.with("line skipped"), 7, "logged each time")
}

// A captive portal, or another web server, answers everything.
func TestRefreshSaysThatAServerIsNoneOfOurs(t *testing.T) {
	for text, want := range map[string]string{
		"<html>\nPlease log in to the network.\n</html>\n": "it is no shardcast server: it answered an HTML page",
		`{"error": "no such bucket"}`:                      "it is no shardcast server: no line of it is a version's: ",
	} {
		pool := newPool(t, fetch.Options{}, listing(t, text))
		require.ErrorContains(t, pool.Refresh(t.Context(), fetch.All), want)
		assert.Empty(t, pool.Offers())
	}
	pool := newPool(t, fetch.Options{}, listing(t, ""))
	require.NoError(t, pool.Refresh(t.Context(), fetch.All), "nothing was published yet")
}

func TestRefreshBoundsTheSizeOfADistribution(t *testing.T) {
	const size = 100 << 20
	var sent atomic.Int64
	s := newSite(t).spoilPath("/distribution.txt", func(w http.ResponseWriter, _ *http.Request) {
		line := []byte(strings.Repeat(fmt.Sprintf("v1: %s\n", one), 100))
		for sent.Load() < size {
			n, err := w.Write(line)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	pool := newPool(t, fetch.Options{}, s)
	require.ErrorIs(t, pool.Refresh(t.Context(), fetch.All), distfile.ErrTooLong)
	s.Close()
	assert.Less(t, sent.Load(), int64(size/2), "unread bytes fill at most the buffers between the two")
}

func TestManifestIsThatOfTheDistribution(t *testing.T) {
	data := content(1, 3*shardSize+1)
	e, m := newest(t, newPool(t, fetch.Options{}, newSite(t, data)))
	assert.Equal(t, digestOf(data), e.Digest)
	assert.Equal(t, e.Digest, m.Digest)
	assert.Equal(t, int64(len(data)), m.Size)
	assert.Len(t, m.Shards, 4)
}

func TestFetchAsksForTheManifestAgainAfterTrouble(t *testing.T) {
	for name, trouble := range map[string]spoiler{
		"503":          by(status(http.StatusServiceUnavailable)),
		"breaking off": by(breakOff),
		"429":          by(status(http.StatusTooManyRequests)),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, content(1, 10)).spoilWith(only("manifest.json", first(trouble)))
			require.NoError(t, newFetch(t, fetch.Options{}, new(memory), s))
			assert.Equal(t, 2, s.asked("/v1/manifest.json"))
		})
	}
}

// breakOff announces more than it sends, and resets the connection.
func breakOff(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = w.Write([]byte("{"))
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func TestManifestThatIsWrongIsAnIntegrityFailure(t *testing.T) {
	replace := func(old, with string) spoiler {
		return tampered(func(text []byte) []byte { return []byte(strings.Replace(string(text), old, with, 1)) })
	}
	for name, spoil := range map[string]spoiler{
		"no JSON":                    by(text("<html>")),
		"nothing":                    by(text("")),
		"another size":               replace(`"size": 2500`, `"size": 3500`),
		"negative size":              replace(`"size": 2500`, `"size": -2500`),
		"no shard size":              replace(`"shard_size": 1000`, `"shard_size": 0`),
		"a size beyond all bounds":   replace(`"size": 2500`, `"size": 1e300`),
		"the digest of another file": replace(digestOf(content(1, 2500)).String(), one.String()),
		"upper case":                 tampered(bytes.ToUpper),
		"endless": by(func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			var log logbook
			bad := newSite(t, content(1, 2500)).spoilWith(only("manifest.json", spoil))
			opts := fetch.Options{FastWait: never, Logger: log.logger()}
			pool := newPool(t, opts, bad)
			require.NoError(t, pool.Refresh(t.Context(), fetch.All))
			_, err := pool.Manifest(t.Context(), pool.Offers()[0])
			require.ErrorIs(t, err, fetch.ErrIntegrity)
			assert.Len(t, log.with("level=WARN", "not asked again", bad.URL), 1)
			_, m := newest(t, newPool(t, opts, bad, newSite(t, content(1, 2500))))
			assert.Equal(t, int64(2500), m.Size, "not taken from the other")
		})
	}
}

func TestManifestThatIsMissingIsNotWaitedFor(t *testing.T) {
	missing := newSite(t, content(1, 10)).spoilPath("/v1/manifest.json", http.NotFound)
	gone := newSite(t, content(1, 10)).spoilPath("/v1/manifest.json", status(http.StatusGone))
	pool := newPool(t, fetch.Options{FastWait: never}, missing, gone)
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	_, err := pool.Manifest(t.Context(), pool.Offers()[0])
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, err, fetch.ErrIntegrity)
	assert.Equal(t, 1, missing.asked("/v1/manifest.json"))
	assert.Equal(t, 1, gone.asked("/v1/manifest.json"))
}

func TestManifestComesFromAnyUpstreamThatHasOne(t *testing.T) {
	missing := newSite(t, content(1, 10)).spoilPath("/v1/manifest.json", http.NotFound)
	_, m := newest(t, newPool(t, fetch.Options{FastWait: never}, missing, newSite(t, content(1, 10))))
	assert.Equal(t, int64(10), m.Size)
}

func TestManifestErrorComesFromTheServersThatAnswered(t *testing.T) {
	missing := newSite(t, content(1, 10)).spoilPath("/v1/manifest.json", http.NotFound)
	dying := newSite(t, content(1, 10))
	pool := newPool(t, fetch.Options{}, dying, missing)
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	dying.Close()
	_, err := pool.Manifest(t.Context(), pool.Offers()[0])
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.NotErrorIs(t, err, fetch.ErrUnreachable)
}

func TestManifestOfServersThatHaveGoneDown(t *testing.T) {
	s := newSite(t, content(1, 10))
	pool := newPool(t, fetch.Options{}, s)
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	s.Close()
	_, err := pool.Manifest(t.Context(), pool.Offers()[0])
	require.ErrorIs(t, err, fetch.ErrUnreachable)
}

func TestManifestOfAVersionThatNoServerOffers(t *testing.T) {
	s := newSite(t, content(1, 10), content(2, 10))
	pool := newPool(t, fetch.Options{FastWait: never}, s)
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	v1 := pool.Offers()[0]
	for name, e := range map[string]distfile.Entry{
		"another version": {Version: 3, Digest: v1.Digest},
		"another file":    {Version: 1, Digest: one},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pool.Manifest(t.Context(), e)
			require.ErrorIs(t, err, fetch.ErrNoVersion)
		})
	}
	s.retire(t, 1)
	_, err := pool.Manifest(t.Context(), v1)
	require.ErrorIs(t, err, fetch.ErrNoVersion, "retired since the last refresh")
}

func TestManifestEndsWithItsContextAndBlamesNoServer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newSite(t, content(1, 10)).spoilPath("/v1/manifest.json", func(w http.ResponseWriter, r *http.Request) {
		cancel()
		silence(w, r)
	})
	pool := newPool(t, fetch.Options{Timeout: never}, s)
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	_, err := pool.Manifest(ctx, pool.Offers()[0])
	require.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, fetch.ErrUnreachable, "it had no time to answer")
}

func TestManifestEndsWithItsContextWhileTheDistributionIsAskedForAgain(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newSite(t, content(1, 10))
	pool := newPool(t, fetch.Options{Timeout: never}, s)
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	s.spoilWith(by(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/distribution.txt" {
			http.NotFound(w, r)
			return
		}
		cancel()
		silence(w, r)
	}))
	_, err := pool.Manifest(ctx, pool.Offers()[0])
	require.ErrorIs(t, err, context.Canceled)
}

// brink is a context that, once armed, ends at the next call of Err.
type brink struct {
	context.Context //nolint:containedctx // a context of a test

	end   context.CancelFunc
	armed atomic.Bool
}

func (b *brink) Err() error {
	if b.armed.Load() {
		b.end()
	}
	return b.Context.Err()
}

func TestFetchEndsWhereItsContextEndsBetweenTwoAttempts(t *testing.T) {
	ctx := new(brink)
	ctx.Context, ctx.end = context.WithCancel(t.Context())
	defer ctx.end()
	s := newSite(t, content(1, 10))
	pool := newPool(t, fetch.Options{}, s)
	require.NoError(t, pool.Refresh(t.Context(), fetch.All))
	s.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.URL.Path == "/distribution.txt" {
			ctx.armed.Store(true)
			next.ServeHTTP(w, r)
		} else {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	require.ErrorIs(t, fetchTo(ctx, pool, pool.Offers()[0], new(memory)), context.Canceled)
}
