package fetch_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/wire"
)

func TestAShardGoesOnElsewhereWhenAPeerBreaksOff(t *testing.T) {
	const half = megabyte / 2
	for name, tc := range map[string]struct {
		fault spoiler
		takes time.Duration // until the pool notices
	}{
		"breaks off": {faultAt(half, cut), 0},
		// all shards have begun to come, or it would be 5 s
		"stalls": {faultAt(half, hang), 750 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, 4*megabyte, megabyte), func(t *testing.T, n *network) {
				bad := n.peer(1, quick, "+1").spoilWith(tc.fault)
				good := n.peer(2, quick).answer("/v1/have",
					announcesFrom(func(announce func(...string), over <-chan struct{}) {
						time.Sleep(50 * time.Millisecond)
						announce("+1")
						<-over
					}))
				origin := n.host("origin", quick).lists("listed", bad, good).spoilWith(notFresh(1))
				got := n.swarm(t, origin)
				require.Len(t, bad.asked(), 1)
				require.Len(t, good.asked(), 1)
				assert.Equal(t, fmt.Sprintf("bytes=%d-%d", half, megabyte-1), good.asked()[0].asked)
				assert.Zero(t, got.Wasted)
				assert.GreaterOrEqual(t, good.asked()[0].at-bad.asked()[0].at, tc.takes-50*time.Millisecond)
				assert.LessOrEqual(t, good.asked()[0].at-bad.asked()[0].at, tc.takes+100*time.Millisecond)
			})
		})
	}
}

func TestARelayThatBreaksOffIsSoonAskedForHeldShards(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
		breaksOff := only("shard_001", oncePerPath(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			w.Header().Set("Shardcast-Tier", "1")
			faultAt(1000, cut)(w, r, next)
		}))
		peer := n.peer(1, quick, "~1 +2-64").spoilWith(breaksOff)
		origin := n.host("origin", quick).lists("listed", peer).answer("/v1/have",
			announces("*1-64")).spoilWith(noSpare(64))
		got := n.swarm(t, origin)
		assert.Less(t, got.took, 3*time.Second)
	})
}

func TestASlowPeerDoesNotHoldUpTheEnd(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/4), func(t *testing.T, n *network) {
		slow, good := n.peer(1, megabyte/50, "+1-32"), n.peer(2, megabyte, "+1-32")
		origin := n.host("origin", megabyte/4).lists("listed", slow, good)
		got := n.swarm(t, origin)
		assert.NotEmpty(t, slow.asked())
		got.assertWithin(t, 1.3, 1.27*megabyte) // a shard of the slow one's takes 12.5 s or more
		assert.Zero(t, got.Wasted)
	})
}

// pauses returns the times between the requests to h.
func (h *host) pauses() []time.Duration {
	var pauses []time.Duration
	asked := h.asked()
	for i := 1; i < len(asked); i++ {
		pauses = append(pauses, asked[i].at-asked[i-1].at)
	}
	return pauses
}

func TestAPeerThatFailsIsLeftAloneForLongerAndLonger(t *testing.T) {
	for name, tc := range map[string]struct {
		fault spoiler
		takes time.Duration
	}{
		"breaks off":          {faultAt(100, cut), 0},
		"sends nothing":       {by(silence), 8 * time.Second},
		"falls silent":        {faultAt(1000, hang), 5 * time.Second},
		"answers 500":         {by(status(500)), 0},
		"answers 409":         {by(status(http.StatusConflict)), 0},
		"is busy, but slowly": {busyAfter(7 * time.Second), 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, 8*megabyte, megabyte/32), func(t *testing.T, n *network) {
				bad := n.peer(1, quick, "+1-256").spoilWith(tc.fault)
				origin := n.host("origin", megabyte/20).lists("listed", bad).answer("/v1/have", announces(""))
				n.swarm(t, origin)
				pauses := bad.pauses()
				require.Greater(t, len(pauses), 3)
				for i, pause := range pauses {
					alone := min(5*time.Second<<i, 80*time.Second) // up to a quarter shorter or longer
					assert.InDelta(t, (tc.takes + alone).Seconds(), pause.Seconds(), 0.6+alone.Seconds()/4, "%d", i)
				}
			})
		})
	}
}

// The transfers from a dead peer fail at the same time, which is one failure.
func TestAPeerThatDiesHasFailedOnce(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/32), func(t *testing.T, n *network) {
		dies := 3 * time.Second
		dead := func() bool { return time.Since(n.start) > dies }
		peer := n.peer(1, megabyte/2, "+1-256")
		peer.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if dead() {
				silence(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
		origin := n.host("origin", megabyte/20).lists("listed", peer).answer("/v1/have", announces(""))
		n.swarm(t, origin)
		var last, next time.Duration
		burst := 0
		for _, r := range peer.asked() {
			switch {
			case r.at > dies && r.at < dies+7*time.Second:
				burst++
				last = r.at
			case r.at > dies && next == 0:
				next = r.at
			}
		}
		assert.Greater(t, burst, 3)
		assert.LessOrEqual(t, next-last, 14*time.Second)
	})
}

// busyAfter answers 503 after a while.
func busyAfter(wait time.Duration) spoiler {
	return by(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
		}
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
}

// Peers that announce all shards and send nothing delay a download only for a while.
func TestADownloadEndsAlsoWhenMostPeersAreBad(t *testing.T) {
	const peers, size, speed = 16, 8 * megabyte, megabyte / 2
	always := announcesFrom(func(announce func(...string), over <-chan struct{}) {
		for {
			select {
			case <-time.After(20 * time.Millisecond):
				announce("+1-64")
			case <-over:
				return
			}
		}
	})
	for name, lies := range map[string]spoiler{
		"they have nothing":            by(status(http.StatusNotFound)),
		"they are busy":                busyAfter(0),
		"they are busy, after a while": busyAfter(2900 * time.Millisecond),
		"they stall":                   by(silence),
		"they stall in the middle":     faultAt(megabyte/16, hang),
		"they send next to nothing":    drip500,
		"they break off":               faultAt(1000, cut),
		"they are well at first":       wellAtFirst(drip500),
		"they are well and then busy":  wellAtFirst(busyAfter(2900 * time.Millisecond)),
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, size, megabyte/8), func(t *testing.T, n *network) {
				var bad []*host
				for i := range peers {
					bad = append(bad, n.peer(i, megabyte/4).spoilWith(lies).answer("/v1/have", always))
				}
				origin := n.host("origin", speed).lists("listed", bad...).answer("/v1/have", announces(""))
				got := n.swarm(t, origin)
				requests := 0
				for _, b := range bad {
					requests += len(b.asked())
				}
				t.Logf("took %v, %v from upstream alone; %d requests of peers", got.took,
					time.Duration(size/speed)*time.Second, requests)
				patience := 30 * time.Second
				if strings.Contains(name, "well") {
					patience *= 5 // each one costs its time in turn
				}
				assert.LessOrEqual(t, got.took, size/speed*time.Second+patience)
			})
		})
	}
}

// drip500 sends a little, and then 500 bytes a second: more than nothing.
func drip500(w http.ResponseWriter, r *http.Request, next http.Handler) {
	next.ServeHTTP(&faulty{ResponseWriter: w, at: func(int64) (int64, func()) {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-time.After(time.Second):
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
		return 500, nil
	}}, r)
}

// wellAtFirst answers the first request well, and the others by h.
func wellAtFirst(h spoiler) spoiler {
	var mu sync.Mutex
	seen := make(map[string]bool)
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		mu.Lock()
		again := seen[r.Host]
		seen[r.Host] = true
		mu.Unlock()
		if again {
			h(w, r, next)
		} else {
			next.ServeHTTP(w, r)
		}
	}
}

func TestPeersThatSendWrongBytesAreNotAskedAgain(t *testing.T) {
	for name, lies := range map[string]spoiler{
		"all":            tampered(flipped),
		"another length": tampered(func(data []byte) []byte { return data[1:] }),
		"part": func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			faultAt(megabyte/16, cut)(w, r, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, megabyte/8)))
			}))
		},
		"part, that of others": tampered206,
	} {
		for _, good := range []int{0, 1, 5} {
			t.Run(fmt.Sprint(name, ", ", good, " good"), func(t *testing.T) {
				simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
					var peers []*host
					for i := range 6 {
						p := n.peer(i, megabyte, "+1-64")
						if i >= good {
							p.spoilWith(lies)
						}
						peers = append(peers, p)
					}
					origin := n.host("origin", megabyte/2).lists("listed", peers...).answer("/v1/have",
						announces("*1-64"))
					got := n.swarm(t, origin)
					t.Logf("took %v, %.1f %% wasted", got.took, got.wastedPercent())
					assert.LessOrEqual(t, got.took, 60*time.Second)
					assert.Empty(t, got.log.with("not asked again", "origin"))
					found := 0
					for i, p := range peers {
						named := got.log.with("level=WARN", "not asked again", "upstream=http://"+p.name+":80")
						if i < good {
							assert.Empty(t, named, p.name)
							continue
						}
						found += len(named)
						assert.LessOrEqual(t, len(named), 1, p.name)
						assert.LessOrEqual(t, len(p.asked()), 40, p.name)
					}
					// A peer may have sent the same wrong bytes as the one that replaced it.
					assert.GreaterOrEqual(t, found, len(peers)-good-map[string]int{"part": 2}[name])
				})
			})
		}
	}
}

func TestOnlyUpstreamsListVersions(t *testing.T) {
	simulate(t, publish(t, 2*megabyte, megabyte/8), func(t *testing.T, n *network) {
		lie := func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintf(w, "v9: %064d\n", 7) }
		peer := n.peer(1, quick, "+1-8").answer("/distribution.txt", lie).answer("/v1/manifest.json",
			lie).answer("/peers.txt", lie)
		origin := n.host("origin", quick).lists("listed", peer)
		m := metrics.New("middle", "")
		pool := n.swarmed(t, fetch.Options{Metrics: m}, origin)
		ctx, stop := context.WithCancel(t.Context())
		var follow sync.WaitGroup
		follow.Go(func() { pool.Follow(ctx, time.Second, func() {}) })
		sink := new(memory)
		end, err := relayTo(t.Context(), pool, sink)
		require.NoError(t, err)
		n.checkResult(t, sink, end)
		time.Sleep(time.Minute) // of the bubble
		require.NoError(t, pool.Refresh(t.Context(), fetch.All))
		stop()
		follow.Wait()
		assert.Equal(t, []distfile.Entry{{Version: 1, Digest: digestOf(n.version.data)}}, pool.Offers())
		assert.True(t, pool.Heard())
		for _, path := range peer.others() {
			assert.Equal(t, "/v1/have", path)
		}
		text, err := m.Text()
		require.NoError(t, err)
		assert.NotContains(t, string(text), "192.0.2.")
		assert.Regexp(t, `shardcast_received_bytes_total\{upstream="http://origin:80"\} [1-9]`, string(text))
		var names []string
		for _, u := range end.Upstreams {
			names = append(names, u.URL)
		}
		assert.Equal(t, []string{"http://origin:80", "http://192.0.2.11:80"}, names)
	})
}

func TestBadAnnouncementsOfAPeerCostLittle(t *testing.T) {
	endless := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte(text)); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
			}
		}
	}
	for name, tc := range map[string]struct {
		have http.HandlerFunc
		asks int   // the most questions in 30 s
		sent int64 // bytes
	}{
		"garbage":                 {text("what?\n"), 1, 10_000},
		"another page":            {text("<html>\n<body>"), 1, 10_000},
		"a line without an end":   {endless("+1 "), 1, 100_000},
		"a line of one character": {endless("x"), 1, 100_000},
		"a line at a time":        {endless("+1\n"), 1, 50_000},
		"nothing at a time":       {endless("\n"), 1, 50_000},
		"changes at a time":       {endless("+1-64\n-1-64\n"), 1, 50_000},
		"more shards":             {announces("+1-65"), 1, 10_000},
		"one shard twice":         {announces("+1-64 -1-64"), 1, 10_000},
		"nothing at all":          {silence, 6, 10_000},
		"no answer":               {status(http.StatusNotFound), 42, 10_000},
		"an error":                {status(http.StatusInternalServerError), 42, 10_000},
		"its end":                 {text("+3-5\n"), 42, 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, 64<<10, 1<<10), func(t *testing.T, n *network) {
				peer := n.peer(1, megabyte).answer("/v1/have", tc.have).spoilWith(by(status(http.StatusNotFound)))
				origin := n.host("origin", 2100).lists("listed", peer).answer("/v1/have", announces(""))
				got := n.swarm(t, origin)
				assert.InDelta(t, 38, got.took.Seconds(), 3)
				assert.LessOrEqual(t, len(peer.others()), tc.asks)
				assert.LessOrEqual(t, peer.sentBytes(), tc.sent)
				if strings.Contains(name, "at a time") {
					assert.Less(t, len(peer.asked()), 2000)
				}
			})
		})
	}
}

func TestPeersAreOnlyWhereTheyMayBe(t *testing.T) {
	simulate(t, publish(t, 4*megabyte, megabyte/8), func(t *testing.T, n *network) {
		peer := n.peer(1, quick, "+1-8")
		self := n.peer(2, quick, "") // which asks
		origin := n.host("203.0.113.1", quick)
		origin.answer("/peers.txt", func(w http.ResponseWriter, _ *http.Request) {
			for _, at := range []string{
				"203.0.113.1:80", "127.0.0.1:80", "10.0.0.1:80", "169.254.169.254:80", "[::1]:80", "0.0.0.0:80",
				"224.0.0.1:80",
				"origin:80", self.name + ":80", peer.name + ":80", peer.name + ":80",
			} {
				_, _ = fmt.Fprintf(w, "http://%s\n", at)
			}
			for i := range 10_000 {
				_, _ = fmt.Fprintf(w, "http://198.51.100.%d:%d\n", i%256, 1000+i)
			}
		})
		n.swarm(t, origin)
		n.mu.Lock()
		dialed := slices.Compact(slices.Sorted(slices.Values(n.dialed)))
		n.mu.Unlock()
		for _, at := range dialed {
			ok := at == "203.0.113.1:80" || at == self.name+":80" || at == peer.name+":80" ||
				strings.HasPrefix(at, "198.51.100.")
			assert.True(t, ok, at)
		}
		assert.Contains(t, dialed, peer.name+":80")
		assert.LessOrEqual(t, len(dialed), 1+16)
		for _, r := range origin.asked() {
			assert.NotEqual(t, "peer", r.how(), "an upstream is no peer")
		}
	})
}

// Peers that call themselves relays, which cannot know that a shard is wrong until its end, and
// that break each one off before it.
func TestRelaysThatBreakWrongShardsOffAreRefusedAfterTheThird(t *testing.T) {
	const size, shardSize, wrong = 16 * megabyte, megabyte / 8, megabyte / 16
	garbage := func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set(wire.TierHeader, "1")
		faultAt(wrong, cut)(w, r, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, shardSize)))
		}))
	}
	// Where there are several, each of them may be asked for what another has sent.
	for name, tc := range map[string]struct {
		peers int
		most  float64
	}{"one": {1, 25}, "four": {4, 50}} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, size, shardSize), func(t *testing.T, n *network) {
				var peers []*host
				for i := range tc.peers {
					peers = append(peers, n.peer(i, megabyte, "+1-128").spoilWith(garbage))
				}
				origin := n.host("origin", megabyte/2).lists("listed", peers...).answer("/v1/have", announces("*1-128"))
				got := n.swarm(t, origin)
				t.Logf("took %v, %.1f %% wasted", got.took, got.wastedPercent())
				assert.LessOrEqual(t, got.wastedPercent(), tc.most)
				assert.Empty(t, got.log.with("not asked again", "origin"))
				for _, p := range peers {
					named := got.log.with("level=WARN", "not asked again", "upstream=http://"+p.name+":80")
					if assert.LessOrEqual(t, len(named), 1, p.name); tc.peers == 1 {
						assert.Len(t, named, 1)
					}
				}
			})
		})
	}
}
