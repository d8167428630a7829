package fetch_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
)

func TestFollowSeesNewsAtOnceWhereAnswersAreHeld(t *testing.T) {
	simulate(t, published{}, func(t *testing.T, n *network) {
		b := n.board("origin", true)
		f := n.follow(t, fetch.Options{}, b)
		n.at(time.Second)
		assert.LessOrEqual(t, f.saw(1), roundTrip)
		n.at(20 * time.Second)
		b.offer(2)
		n.at(time.Hour)
		b.offer(3)
		n.at(2 * time.Hour)
		assert.InDelta(t, 20*time.Second, f.saw(2), float64(roundTrip))
		assert.InDelta(t, time.Hour, f.saw(3), float64(roundTrip))
		assert.Equal(t, 3, f.news(), "called for answers without news")
		questions := b.questions(0)
		assert.Equal(t, asking{wait: 0}, questions[0], "the first question does not wait")
		for _, q := range questions[1:] {
			assert.Equal(t, 55*time.Second, q.wait)
			assert.NotEmpty(t, q.etag)
		}
		assert.InDelta(t, 2*time.Hour/(55*time.Second), len(questions), 4)
		assert.Empty(t, f.log.with("level=WARN"))
	})
}

func TestFollowPollsWhereAnswersAreNotHeld(t *testing.T) {
	simulate(t, published{}, func(t *testing.T, n *network) {
		b := n.board("origin", false)
		f := n.follow(t, fetch.Options{}, b)
		n.at(time.Minute)
		b.offer(2)
		n.at(5 * time.Minute)
		assert.Greater(t, f.saw(2), time.Minute)
		assert.LessOrEqual(t, f.saw(2), time.Minute+interval+roundTrip)
		questions := b.questions(0)
		assert.InDelta(t, 5*time.Minute/interval, len(questions), 2)
		assert.Equal(t, 55*time.Second, questions[1].wait, "tried once, and without delay")
		assert.Less(t, questions[1].at, time.Second)
		for _, q := range questions[2:] {
			assert.Zero(t, q.wait)
			assert.Empty(t, q.etag, "ETags of other servers are not used")
		}
		// A server that knows how may have replaced it.
		b.mu.Lock()
		b.knows = true
		b.mu.Unlock()
		n.at(15 * time.Minute)
		assert.Equal(t, 1, b.held())
		b.offer(3)
		n.at(16 * time.Minute)
		assert.InDelta(t, 15*time.Minute, f.saw(3), float64(roundTrip))
	})
}

func TestFollowPollsWhereThereIsNoETag(t *testing.T) {
	simulate(t, published{}, func(t *testing.T, n *network) {
		b := n.board("origin", true).spoilWith(by(text("v1: " + one.String())))
		f := n.follow(t, fetch.Options{}, b)
		n.at(10 * time.Minute)
		assert.Len(t, f.Offers(), 1)
		assert.InDelta(t, 10*time.Minute/interval, len(b.questions(0)), 2)
		for _, q := range b.questions(0) {
			assert.Zero(t, q.wait)
		}
	})
}

// cutAfter ends questions that wait, like a proxy on the way.
func cutAfter(patience time.Duration, fault http.HandlerFunc) spoiler {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		next.ServeHTTP(discarded{w, ctx}, r.WithContext(ctx))
		if ctx.Err() != nil && r.Context().Err() == nil {
			fault(w, r)
		}
	}
}

// discarded is a writer whose writes are lost when ctx has ended.
type discarded struct {
	http.ResponseWriter

	ctx context.Context //nolint:containedctx // a test's writer
}

func (d discarded) Header() http.Header {
	if d.ctx.Err() != nil {
		return make(http.Header)
	}
	return d.ResponseWriter.Header()
}

func (d discarded) WriteHeader(code int) {
	if d.ctx.Err() == nil {
		d.ResponseWriter.WriteHeader(code)
	}
}

func (d discarded) Write(data []byte) (int, error) {
	if d.ctx.Err() != nil {
		return len(data), nil
	}
	return d.ResponseWriter.Write(data)
}

func TestFollowCopesWithProxiesThatCut(t *testing.T) {
	for name, fault := range map[string]http.HandlerFunc{
		"without an answer": cut, "502": status(http.StatusBadGateway), "504": status(http.StatusGatewayTimeout),
		"408": status(http.StatusRequestTimeout),
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, published{}, func(t *testing.T, n *network) {
				b := n.board("origin", true).spoilWith(cutAfter(30*time.Second, fault))
				f := n.follow(t, fetch.Options{}, b)
				n.at(29 * time.Second)
				assert.Equal(t, 55*time.Second, b.questions(0)[1].wait)
				n.at(33 * time.Second)
				require.Len(t, b.questions(0), 3, "a question came at once, or from two goroutines")
				assert.Equal(t, 27*time.Second, b.questions(0)[2].wait)
				b.offer(2)
				n.at(34 * time.Second)
				assert.InDelta(t, 33*time.Second, f.saw(2), float64(roundTrip))

				n.at(time.Hour)
				long := slices.DeleteFunc(b.questions(time.Minute),
					func(q asking) bool { return q.wait == 27*time.Second })
				assert.InDelta(t, 6, len(long), 1, "attempts with a longer wait")
				for _, q := range long {
					assert.Equal(t, 54*time.Second, q.wait)
				}
				assert.Empty(t, f.log.with("level=WARN"))
				assert.Empty(t, f.log.with("upstream is back"))
				assert.Equal(t, 2, f.news())
			})
		})
	}
}

func TestFollowTakesALongerWaitThatProxiesAllow(t *testing.T) {
	simulate(t, published{}, func(t *testing.T, n *network) {
		b := n.board("origin", true).spoilWith(cutAfter(10*time.Second, cut))
		n.follow(t, fetch.Options{}, b)
		n.at(5 * time.Minute)
		b.spoilWith(nil)
		n.at(time.Hour)
		last := b.questions(0)
		assert.Equal(t, 55*time.Second, last[len(last)-1].wait)
	})
}

func TestFollowPollsWhereProxiesCutEachWait(t *testing.T) {
	simulate(t, published{}, func(t *testing.T, n *network) {
		b := n.board("origin", true).spoilWith(cutAfter(4*time.Second, cut))
		f := n.follow(t, fetch.Options{}, b)
		n.at(time.Minute)
		var waits []time.Duration
		for _, q := range b.questions(0) {
			waits = append(waits, q.wait/time.Second)
		}
		assert.Equal(t, []time.Duration{0, 55, 27, 13, 6, 5, 0}, waits[:7])
		b.offer(2)
		n.at(9 * time.Minute)
		assert.LessOrEqual(t, f.saw(2), time.Minute+interval+roundTrip)
		for _, q := range b.questions(time.Minute) {
			assert.Zero(t, q.wait)
		}
		assert.InDelta(t, 8*time.Minute/interval, len(b.questions(time.Minute)), 1)
		b.spoilWith(nil)
		n.at(12 * time.Minute)
		assert.Equal(t, 1, b.held(), "waiting is tried again")
		assert.Empty(t, f.log.with("level=WARN"))
	})
}

func TestFollowDistinguishesACutFromALateServer(t *testing.T) {
	for name, spoil := range map[string]spoiler{
		"504 after the wait is over": by(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Minute)
			status(504)(w, r)
		}),
		"the connection ends after it, fresh": by(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Minute)
			cut(w, r)
		}),
		"nothing ever": by(silence),
		"500 before it is over": by(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(20 * time.Second)
			status(500)(w, r)
		}),
		"502 at once": by(status(http.StatusBadGateway)),
		"cut at once": by(cut),
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, published{}, func(t *testing.T, n *network) {
				b := n.board("origin", true).spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					if r.Header.Get("Prefer") != "" {
						spoil(w, r, next)
						return
					}
					next.ServeHTTP(w, r)
				})
				f := n.follow(t, fetch.Options{Timeout: 30 * time.Second}, b)
				n.at(87 * time.Second) // 55 + 30
				assert.NotEmpty(t, f.log.with("level=WARN", "upstream is down"))
				n.at(89 * time.Second)
				assert.NotEmpty(t, f.log.with("upstream is back"))
				n.at(20 * time.Minute)
				assert.LessOrEqual(t, len(f.log.with("level=WARN", "upstream is down")), 7,
					"it is not asked to wait for ever")
			})
		})
	}
}

func TestFollowAllowsTheWaitBesideTheTimeout(t *testing.T) {
	simulate(t, published{}, func(t *testing.T, n *network) {
		b := n.board("origin", true)
		f := n.follow(t, fetch.Options{Timeout: time.Second}, b)
		n.at(10 * time.Minute)
		assert.Empty(t, f.log.with("level=WARN"))
		assert.InDelta(t, 10*time.Minute/(55*time.Second), len(b.questions(0)), 3)
	})
}

func TestFollowDoesNotHammer(t *testing.T) {
	const newsAtOnce = 52 // and the first two, without a wait

	for name, tc := range map[string]struct {
		spoil         func(b *board) spoiler
		first, minute int // the most questions
		hour          int
	}{
		"304 at once": {func(*board) spoiler {
			return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.Header.Get("Prefer") == "" {
					next.ServeHTTP(w, r)
					return
				}
				w.Header().Set("Preference-Applied", "respond-async, Wait = 55")
				w.WriteHeader(http.StatusNotModified)
			}
		}, 4, 12, 180},
		"200 at once, the same": {func(b *board) spoiler {
			return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
				r.Header.Del("If-None-Match")
				w.Header().Set("Preference-Applied", "wait=55")
				b.answer(w, r)
			}
		}, 4, 12, 180},
		"200 at once, never the same": {func(b *board) spoiler {
			version := 1
			return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				version++
				b.offer(version % 100)
				next.ServeHTTP(w, r)
			}
		}, newsAtOnce + 4, newsAtOnce + 64, newsAtOnce + 3604},
		"no answer": {func(*board) spoiler { return by(cut) }, 4, 9, 180},
		"503": {
			func(*board) spoiler { return by(status(http.StatusServiceUnavailable)) }, 4, 9, 180,
		},
		"503 with Retry-After: 0":  {func(*board) spoiler { return by(busyFor(0)) }, 4, 9, 180},
		"503 with Retry-After: 60": {func(*board) spoiler { return by(busyFor(60)) }, 1, 1, 60},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, published{}, func(t *testing.T, n *network) {
				b := n.board("origin", true)
				b.spoilWith(tc.spoil(b))
				n.follow(t, fetch.Options{}, b)
				n.at(time.Second)
				assert.LessOrEqual(t, len(b.questions(0)), tc.first)
				n.at(time.Minute)
				assert.LessOrEqual(t, len(b.questions(0)), tc.minute)
				n.at(time.Hour)
				assert.LessOrEqual(t, len(b.questions(0)), tc.hour)
				assert.GreaterOrEqual(t, len(b.questions(0)), 39, "it is not forgotten")
			})
		})
	}
}

func busyFor(seconds int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func TestFollowFindsARestartedServerSoon(t *testing.T) {
	simulate(t, published{}, func(t *testing.T, n *network) {
		b := n.board("origin", true)
		f := n.follow(t, fetch.Options{}, b)
		n.at(100 * time.Second)
		b.stop()
		n.at(105 * time.Second)
		assert.Len(t, f.log.with("level=WARN", "upstream is down"), 1)
		assert.Equal(t, 2, f.news())
		b.offer(2)
		b.restart()
		n.at(112 * time.Second) // 1 + 2 + 4 seconds, a quarter more
		assert.LessOrEqual(t, f.saw(2), 111*time.Second)
		assert.Len(t, f.log.with("upstream is back"), 1)
		assert.Len(t, f.log.with("level=WARN"), 1)
		assert.Equal(t, 3, f.news())
		assert.Equal(t, 1, b.held(), "it waits again")

		b.stop()
		n.at(time.Hour)
		b.restart()
		n.at(time.Hour + interval*5/4)
		assert.Len(t, f.log.with("upstream is back"), 2, "not found for longer than the interval")
	})
}

func TestFollowersOfARestartedServerDoNotComeBackTogether(t *testing.T) {
	for name, away := range map[string]time.Duration{"at once": 0, "after a while": 2 * time.Second} {
		t.Run(name, func(t *testing.T) {
			simulate(t, published{}, func(t *testing.T, n *network) {
				const followers = 200
				b := n.board("origin", true)
				for range followers {
					n.follow(t, fetch.Options{}, b)
				}
				n.at(50 * time.Second)
				require.Equal(t, followers, b.held())
				if away == 0 {
					b.cutAll()
				} else {
					b.stop()
				}
				n.at(50*time.Second + away)
				b.restart()
				n.at(time.Minute)
				instants := make(map[time.Duration]int)
				back := b.questions(50 * time.Second)
				for _, q := range back {
					instants[q.at.Truncate(time.Millisecond)]++
				}
				assert.GreaterOrEqual(t, len(back), followers)
				for at, together := range instants {
					assert.LessOrEqual(t, together, followers/20, "at %v", at)
				}
			})
		})
	}
}

func TestFollowGoesOnBesideImmediateQuestions(t *testing.T) {
	simulate(t, published{}, func(t *testing.T, n *network) {
		b := n.board("origin", true)
		f := n.follow(t, fetch.Options{}, b)
		n.at(10 * time.Second)
		require.Equal(t, 1, b.held())
		start := time.Now()
		require.NoError(t, f.Refresh(t.Context(), fetch.All))
		assert.LessOrEqual(t, time.Since(start), roundTrip, "it waited for a held answer")
		assert.Equal(t, 1, f.news(), "called without news")
		require.Equal(t, 1, b.held())
		// The answer to another question is news as well.
		b.spoilWith(by(text("")))
		require.NoError(t, f.Refresh(t.Context(), fetch.All))
		synctest.Wait()
		assert.Equal(t, 2, f.news())
		assert.Empty(t, f.Offers())
	})
}

func TestFollowIsNotSetBackByAnOlderAnswer(t *testing.T) {
	simulate(t, published{}, func(t *testing.T, n *network) {
		b := n.board("origin", true)
		f := n.follow(t, fetch.Options{}, b)
		n.at(10 * time.Second)
		old := b.text
		b.spoilWith(by(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(5 * time.Second)
			text(old)(w, r)
		}))
		refreshed := make(chan error)
		go func() { refreshed <- f.Refresh(t.Context(), fetch.All) }()
		n.at(11 * time.Second)
		b.spoilWith(nil).offer(2)
		n.at(14 * time.Second)
		require.Len(t, f.Offers(), 2)
		require.NoError(t, <-refreshed)
		assert.Len(t, f.Offers(), 2, "the older answer has replaced the newer one")
	})
}

func TestFollowCallsWhenEachUpstreamHasAnsweredOrFailed(t *testing.T) {
	simulate(t, published{}, func(t *testing.T, n *network) {
		quick, down := n.board("quick", true), n.board("down", true)
		slow := n.board("slow", false).spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			time.Sleep(5 * time.Second)
			next.ServeHTTP(w, r)
		})
		down.stop()
		f := n.client(t, fetch.Options{}, 0, quick.host, down.host, slow.host)
		require.NoError(t, f.Refresh(t.Context(), fetch.All)) // so that no later answer is news
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		var calls []time.Duration
		start := time.Now()
		go func() {
			defer close(ended)
			f.Follow(ctx, interval, func() { calls = append(calls, time.Since(start)) })
		}()
		time.Sleep(6 * time.Second)
		cancel()
		<-ended
		require.NotEmpty(t, calls)
		assert.InDelta(t, 5*time.Second, calls[len(calls)-1], float64(2*roundTrip))
		assert.Less(t, calls[0], 2*roundTrip, "the quick one waits for the slow one")
	})
}

func TestFollowCallsWhenAnUpstreamIsNoLongerAwaited(t *testing.T) {
	simulate(t, published{}, func(t *testing.T, n *network) {
		up, down := n.board("up", true), n.board("down", true)
		down.stop()
		f := n.follow(t, fetch.Options{}, up, down)
		n.at(90 * time.Second) // the others decide without it by now
		require.False(t, f.Heard())
		before := f.news()
		n.at(10 * time.Minute)
		require.True(t, f.Heard())
		assert.Equal(t, before+1, f.news())
	})
}

func TestFollowCallsOneAtATimeAndMissesNoNews(t *testing.T) {
	simulate(t, published{}, func(t *testing.T, n *network) {
		var boards []*board
		var hosts []*host
		for i := range 5 {
			boards = append(boards, n.board(fmt.Sprint("host", i), true))
			hosts = append(hosts, boards[i].host)
		}
		pool := n.client(t, fetch.Options{}, 0, hosts...)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		var at sync.Mutex
		var offers []distfile.Entry
		go func() {
			defer close(ended)
			pool.Follow(ctx, interval, func() {
				assert.True(t, at.TryLock(), "called twice at the same time")
				offers = pool.Offers()
				time.Sleep(3 * time.Second) // while other upstreams have news
				at.Unlock()
			})
		}()
		for i, b := range boards {
			n.at(time.Duration(10+i) * time.Second)
			b.offer(2 + i)
		}
		n.at(time.Minute)
		assert.Len(t, offers, 6)
		cancel()
		<-ended
	})
}

func TestFollowEndsWithItsPoolAndItsContext(t *testing.T) {
	simulate(t, published{}, func(t *testing.T, n *network) {
		b := n.board("origin", true)
		down := n.board("down", true)
		down.stop()
		f := n.follow(t, fetch.Options{}, b, down)
		g := n.follow(t, fetch.Options{}, b, down)
		n.at(10 * time.Second)
		require.Equal(t, 2, b.held())
		before := time.Now()
		f.stop()
		g.Close()
		g.stop()
		assert.Zero(t, time.Since(before))
		n.at(11 * time.Second)
		assert.Zero(t, b.held())
		assert.Len(t, f.log.with("level=WARN"), 1, "the end of the pool is no failure of an upstream")
		assert.Empty(t, f.log.with("level=WARN", "origin"))
		assert.Empty(t, g.log.with("level=WARN", "origin"))
	})
}

func TestFollowOverSockets(t *testing.T) {
	changed := make(chan struct{})
	s := newSite(t, content(1, 10)).spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("Prefer") != "" {
			w.Header().Set("Preference-Applied", "wait=55")
			select {
			case <-changed:
				r.Header.Del("If-None-Match")
				fmt.Fprintf(w, "v1: %s\nv2: %s\n", one, two)
				return
			case <-r.Context().Done():
				return
			}
		}
		next.ServeHTTP(w, r)
	})
	pool := newPool(t, fetch.Options{}, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pool.Follow(ctx, time.Minute, func() {
		switch len(pool.Offers()) {
		case 1:
			close(changed)
		case 2:
			cancel()
		}
	})
	assert.Len(t, pool.Offers(), 2)
}
