package fetch_test

import (
	"context"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
)

// busyUntil makes h answer 503 until a time since the begin, with some seconds to wait.
func busyUntil(h *host, until time.Duration, seconds int) spoiler {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if time.Since(h.network.start) < until {
			tooBusy(w, seconds)
			return
		}
		next.ServeHTTP(w, r)
	}
}

func tooBusy(w http.ResponseWriter, seconds int) {
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	w.WriteHeader(http.StatusServiceUnavailable)
}

// allowing makes h answer 503 to more than so many requests at the same time.
func allowing(h *host, most, seconds int) spoiler {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		h.mu.Lock()
		tooMany := h.now > most
		h.mu.Unlock()
		if tooMany {
			tooBusy(w, seconds)
			return
		}
		next.ServeHTTP(w, r)
	}
}

func TestABusyUpstreamIsNotAskedBeforeItsTime(t *testing.T) {
	const wait = 7 * time.Second
	for name, tc := range map[string]struct {
		concurrency int
		until       time.Duration
	}{
		"one at a time":    {1, 20 * time.Second},
		"more than once":   {1, 2 * time.Minute}, // more than five attempts
		"many at the time": {10, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, 10*megabyte, megabyte), func(t *testing.T, n *network) {
				only := n.host("only", 2*megabyte)
				only.spoilWith(busyUntil(only, tc.until, int(wait.Seconds())))
				got := n.fetch(t, fetch.Options{Concurrency: tc.concurrency}, only)
				requests := only.asked()
				var first, last time.Duration = -1, -1 // that were sent away, of this round
				for _, r := range requests {
					if first >= 0 && r.at > first+latency {
						assert.GreaterOrEqual(t, r.at, last+wait, "asked again too early")
					}
					switch {
					case r.status != http.StatusServiceUnavailable:
						first = -1
					case first < 0 || r.at >= first+wait:
						first, last = r.at, r.at
					default:
						last = r.at
					}
				}
				away := len(only.answered(http.StatusServiceUnavailable))
				t.Logf("took %v, sent away %d times", got.took, away)
				assert.LessOrEqual(t, got.took, tc.until+wait*3/2+8*time.Second)
				assert.Empty(t, got.log.with("trying again"), "waiting is no attempt")
				assert.Zero(t, got.Wasted)
			})
		})
	}
}

func TestABusyUpstreamLeavesTheOthersToWork(t *testing.T) {
	simulate(t, publish(t, 20*megabyte, megabyte), func(t *testing.T, n *network) {
		good := n.host("good", 2*megabyte)
		busy := n.host("busy", 2*megabyte)
		busy.spoilWith(busyUntil(busy, time.Hour, 60))
		got := n.fetch(t, fetch.Options{}, good, busy)
		t.Logf("took %v, sent away %d times", got.took, len(busy.asked()))
		assert.LessOrEqual(t, got.took, 12*time.Second)
		assert.LessOrEqual(t, len(busy.asked()), 10)
	})
}

func TestAServerThatAllowsTwoAtATime(t *testing.T) {
	for name, tc := range map[string]struct {
		others, seconds int
		most            time.Duration // at 2 MB/s a server
	}{
		"alone":                 {0, 5, 18 * time.Second},
		"with another":          {1, 5, 10 * time.Second},
		"and asks for a minute": {0, 60, 18 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, 30*megabyte, megabyte/2), func(t *testing.T, n *network) {
				two := n.host("two", 2*megabyte)
				two.spoilWith(allowing(two, 2, tc.seconds))
				hosts := []*host{two}
				for range tc.others {
					hosts = append(hosts, n.host("other", 2*megabyte))
				}
				got := n.fetch(t, fetch.Options{}, hosts...)
				away := len(two.answered(http.StatusServiceUnavailable))
				t.Logf("took %v, %d requests, sent away %d times", got.took, len(two.asked()), away)
				assert.LessOrEqual(t, got.took, tc.most)
				// Eight workers too many at first, and then an attempt of one now and then.
				assert.LessOrEqual(t, away, 8+int(got.took/(2*time.Second)))
				assert.LessOrEqual(t, got.wastedPercent(), 5.)
			})
		})
	}
}

func TestAServerThatStaysBusyIsNoMissingVersion(t *testing.T) {
	simulate(t, publish(t, megabyte, megabyte), func(t *testing.T, n *network) {
		only := n.host("only", 2*megabyte)
		only.spoilWith(busyUntil(only, 100*time.Hour, 30))
		got, err := n.tryFetch(t, fetch.Options{Concurrency: 1}, 1, new(memory), only)
		require.Error(t, err)
		assert.InDelta(t, 10*time.Minute, got.took, float64(time.Minute))
		require.NotErrorIs(t, err, fetch.ErrNoVersion)
		assert.ErrorContains(t, err, "503")
	})
}

// A pool waits for a busy server. A server that fails meanwhile is not asked over and over.
func TestAWaitForABusyUpstreamHammersNoOther(t *testing.T) {
	simulate(t, publish(t, 10*megabyte, megabyte), func(t *testing.T, n *network) {
		busy := n.host("busy", 2*megabyte)
		busy.spoilWith(busyUntil(busy, 30*time.Second, 30))
		broken := n.host("broken", 2*megabyte).spoilWith(by(status(http.StatusInternalServerError)))
		got, err := n.tryFetch(t, fetch.Options{}, 1, new(memory), busy, broken)
		t.Logf("took %v, %v, asked the broken one %d times", got.took, err, len(broken.asked()))
		require.NoError(t, err)
		assert.LessOrEqual(t, len(broken.asked()), 300)
	})
}

func TestABusyUpstreamDoesNotKeepAFailingFetchAlive(t *testing.T) {
	simulate(t, publish(t, megabyte, megabyte), func(t *testing.T, n *network) {
		busy := n.host("busy", 2*megabyte)
		busy.spoilWith(busyUntil(busy, 1000*time.Hour, 30))
		broken := n.host("broken", 2*megabyte).spoilWith(faultAt(0, cut))
		ended := false
		time.AfterFunc(time.Hour, func() {
			if !ended {
				busy.spoilWith(nil)
			}
		})
		got, _ := n.tryFetch(t, fetch.Options{Concurrency: 1}, 1, new(memory), busy, broken)
		ended = true
		t.Logf("took %v, asked the broken one %d times", got.took, len(broken.asked()))
		assert.LessOrEqual(t, got.took, 12*time.Minute)
	})
}

func TestABusyServerIsNotAskedForItsDistributionBeforeItsTime(t *testing.T) {
	const wait = 7 * time.Second
	for name, tc := range map[string]struct {
		ask func(context.Context, *fetch.Pool) error
		err string
	}{
		"once": {
			func(ctx context.Context, p *fetch.Pool) error { return p.Refresh(ctx, fetch.Soon) },
			"503",
		},
		"until it may be": {func(ctx context.Context, p *fetch.Pool) error { return p.Reach(ctx) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, 10, 10), func(t *testing.T, n *network) {
				only := n.host("only", megabyte)
				var asked []time.Duration
				only.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					asked = append(asked, time.Since(n.start))
					if len(asked) == 1 {
						tooBusy(w, int(wait.Seconds()))
						return
					}
					only.ServeHTTP(w, r)
				})
				pool := n.client(t, fetch.Options{}, 1, only)
				require.ErrorContains(t, pool.Refresh(t.Context(), fetch.Soon), "503")
				time.Sleep(wait - time.Second)
				if err := tc.ask(t.Context(), pool); tc.err == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, tc.err)
					assert.Len(t, asked, 1)
					time.Sleep(time.Second)
					require.NoError(t, tc.ask(t.Context(), pool))
				}
				require.Len(t, asked, 2)
				assert.GreaterOrEqual(t, asked[1], wait)
				assert.LessOrEqual(t, asked[1], 2*wait)
				assert.Len(t, pool.Offers(), 1)
			})
		})
	}
}
