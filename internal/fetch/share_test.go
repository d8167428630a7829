package fetch_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/fetch"
)

func TestManyClientsShareEqualServers(t *testing.T) {
	const clients, servers = 30, 3
	simulate(t, publish(t, 2*megabyte, megabyte/8), func(t *testing.T, n *network) {
		var hosts []*host
		for i := range servers {
			hosts = append(hosts, n.host(fmt.Sprint("host", i), 2*megabyte))
		}
		start := time.Now()
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() {
				_, err := n.tryFetch(t, fetch.Options{Concurrency: 4}, uint64(i+1), new(memory), hosts...)
				assert.NoError(t, err)
			})
		}
		all.Wait()
		took := time.Since(start)
		var sum int64
		for _, h := range hosts {
			sum += h.sentBytes()
		}
		for _, h := range hosts {
			share := float64(h.sentBytes()) / float64(sum)
			t.Logf("%s: %.3f of all", h.name, share)
			assert.InDelta(t, 1./servers, share, 0.07)
		}
		best := float64(clients*2) / (servers * 2)
		t.Logf("took %v, %.3f times the best", took, took.Seconds()/best)
		assert.LessOrEqual(t, took.Seconds(), 1.3*best)
	})
}

// The worst known case: a server that is slow until it is raced, and then sends the same
// bytes at the same time.
func TestRacesInStepWasteLittle(t *testing.T) {
	for _, shardSize := range []int{30 << 10, 70 << 10, 100 << 10, 128<<10 - 1} {
		t.Run(fmt.Sprint(shardSize), func(t *testing.T) {
			simulate(t, publish(t, 6*megabyte, shardSize), func(t *testing.T, n *network) {
				fast := n.host("fast", 2*megabyte)
				slow := n.host("slow", 2*megabyte)
				// inStep sends at one pace from both servers once they race.
				inStep := func(other *host, before int64) spoiler {
					return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
						raced := func() bool {
							return slices.ContainsFunc(other.asked(), func(o request) bool {
								return o.path == r.URL.Path && time.Since(n.start) > o.at+latency
							})
						}
						next.ServeHTTP(&faulty{ResponseWriter: w, at: func(int64) (int64, func()) {
							pieces := before
							if raced() {
								pieces = 2000
							}
							if pieces < copySize {
								_ = http.NewResponseController(w).Flush()
								select {
								case <-time.After(latency):
								case <-r.Context().Done():
									panic(http.ErrAbortHandler)
								}
							}
							return pieces, nil
						}}, r)
					}
				}
				fast.spoilWith(inStep(slow, copySize))
				lurking := inStep(fast, 20)
				slow.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					allowing(slow, 6, 60)(w, r,
						http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { lurking(w, r, next) }))
				})
				got := n.fetch(t, fetch.Options{Concurrency: 16}, fast, slow)
				t.Logf("took %v, %.2f %% wasted, %.2f %% more sent than needed", got.took, got.wastedPercent(),
					100*float64(fast.sentBytes()+slow.sentBytes()-got.Size)/float64(got.Size))
				assert.LessOrEqual(t, got.wastedPercent(), 5.)
				assert.GreaterOrEqual(t, got.wastedPercent(), 1., "there was no race")
			})
		})
	}
}

// Servers that are slow in turns, so that the raced server was slow, and the racing one
// becomes slow.
func TestRacesWasteLittle(t *testing.T) {
	turns := func(period time.Duration, fast, slow float64, phase, of int) func(time.Duration) float64 {
		return func(since time.Duration) float64 {
			if int(since/period)%of == phase {
				return fast
			}
			return slow
		}
	}
	// slowAfter makes a server slow some time after the last new request.
	slowAfter := func(h *host, dur time.Duration, fast, slow float64) func(time.Duration) float64 {
		return func(since time.Duration) float64 { // under the mu of h
			if i := len(h.requests); i > 0 && since-h.requests[i-1].at < dur {
				return fast
			}
			return slow
		}
	}
	for name, speed := range map[string]func(h *host, i int) func(time.Duration) float64{
		"turns of a second": func(_ *host, i int) func(time.Duration) float64 {
			return turns(time.Second, 2*megabyte, 2000, i, 3)
		},
		"turns of three": func(_ *host, i int) func(time.Duration) float64 {
			return turns(3*time.Second, 2*megabyte, 2000, i, 3)
		},
		"two slow, one fast": func(_ *host, i int) func(time.Duration) float64 {
			return turns(time.Hour, 4*megabyte, 5000, i, 3)
		},
		"slow soon after it is asked": func(h *host, _ int) func(time.Duration) float64 {
			return slowAfter(h, time.Second, megabyte, 2000)
		},
		"slow a little later": func(h *host, _ int) func(time.Duration) float64 {
			return slowAfter(h, 3*time.Second, megabyte, 5000)
		},
	} {
		for _, shardSize := range []int{megabyte / 16, megabyte / 2} {
			t.Run(fmt.Sprint(name, ", shards of ", shardSize>>10, " KiB"), func(t *testing.T) {
				simulate(t, publish(t, 4*megabyte, shardSize), func(t *testing.T, n *network) {
					var hosts []*host
					for i := range 3 {
						h := n.host(fmt.Sprint("host", i), 1)
						hosts = append(hosts, h.varies(speed(h, i)))
					}
					got := n.fetch(t, fetch.Options{}, hosts...)
					var sent int64
					for _, h := range hosts {
						sent += h.sentBytes()
					}
					t.Logf("took %v, %.2f %% wasted, %.2f %% more sent than needed", got.took, got.wastedPercent(),
						100*float64(sent-got.Size)/float64(got.Size))
					assert.LessOrEqual(t, got.wastedPercent(), 5.)
				})
			})
		}
	}
}
