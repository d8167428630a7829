package fetch_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/shard"
)

// peer adds a node of a swarm, which says what it has by lines.
func (n *network) peer(i int, speed float64, lines ...string) *host {
	return n.host(fmt.Sprintf("192.0.2.%d", 10+i), speed).answer("/v1/have", tells(lines...))
}

// tells sends lines, and then says every two seconds that there is nothing new.
func tells(lines ...string) http.HandlerFunc {
	return tellsFrom(func(tell func(lines ...string), over <-chan struct{}) {
		tell(lines...)
		<-over
	})
}

// tellsFrom has what is told come from say, which may take its time until over is closed.
func tellsFrom(say func(tell func(lines ...string), over <-chan struct{})) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		over := r.Context().Done()
		told := make(chan string)
		var saying sync.WaitGroup
		defer saying.Wait()
		saying.Go(func() {
			say(func(lines ...string) {
				select {
				case told <- strings.Join(lines, "\n"):
				case <-over:
				}
			}, over)
		})
		for {
			var line string
			select {
			case line = <-told:
			case <-time.After(2 * time.Second):
			case <-over:
				return
			}
			_, _ = fmt.Fprintln(w, line)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// lists tells of peers, and what has become of who asks.
func (h *host) lists(standing string, peers ...*host) *host {
	return h.answer("/peers.txt", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Shardcast-Peer", standing)
		for _, p := range peers {
			_, _ = fmt.Fprintf(w, "http://%s:80\n", p.name)
		}
	})
}

// swarmed is a pool in the swarms of hosts, which are known already.
func (n *network) swarmed(t *testing.T, opts fetch.Options, hosts ...*host) *fetch.Pool {
	t.Helper()
	opts.Swarm = true
	pool := n.client(t, opts, 1, hosts...)
	require.NoError(t, pool.Refresh(t.Context(), fetch.Soon))
	ctx, leave := context.WithCancel(t.Context())
	var swarm sync.WaitGroup
	swarm.Go(func() { pool.Swarm(ctx, &net.TCPAddr{Port: 8001}) })
	t.Cleanup(func() {
		leave()
		swarm.Wait()
	})
	time.Sleep(200 * time.Millisecond) // of the bubble
	return pool
}

// trySwarm gets the version in the swarms of hosts.
func (n *network) trySwarm(t *testing.T, opts fetch.Options, sink readSink, hosts ...*host) (fetched, error) {
	t.Helper()
	log := new(logbook)
	opts.Logger = cmp.Or(opts.Logger, log.logger())
	pool := n.swarmed(t, opts, hosts...)
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // of the bubble
	defer cancel()
	end, err := relayTo(ctx, pool, sink)
	return fetched{end, time.Since(start), log}, err
}

// readSink is a sink that readers read meanwhile.
type readSink interface {
	fetch.Sink
	fetch.Audience
}

// relayTo fetches what is on offer, for others to have it too.
func relayTo(ctx context.Context, pool *fetch.Pool, sink readSink) (fetch.Progress, error) {
	_, end, err := pool.Fetch(ctx, fetch.Task{
		Entry: pool.Offers()[0], Audience: func() fetch.Audience { return sink },
		Open:     func(shard.Manifest, int) (fetch.Sink, error) { return sink, nil },
		Progress: func(fetch.Progress) {},
	})
	return end, err
}

func (n *network) swarm(t *testing.T, hosts ...*host) fetched {
	t.Helper()
	sink := new(memory)
	got, err := n.trySwarm(t, fetch.Options{}, sink, hosts...)
	require.NoError(t, err)
	n.checkResult(t, sink, got.Progress)
	return got
}

// how returns how a request was made by a node of a swarm.
func (r request) how() string { return r.header.Get("Shardcast-Swarm") }

// number is that of the shard.
func (r request) number() int {
	var number int
	_, _ = fmt.Sscanf(r.path, "/v1/shard_%d.bin", &number)
	return number
}

// numbers returns which shards a host was asked for, ascending.
func (h *host) numbers() []int {
	var numbers []int
	for _, r := range h.asked() {
		numbers = append(numbers, r.number())
	}
	slices.Sort(numbers)
	return numbers
}

func upTo(n int) []int {
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i + 1
	}
	return numbers
}

const quick = 16 * megabyte // bytes per second

func TestNodeTakesFromPeersWhatTheseHaveAndFromUpstreamWhatIsFresh(t *testing.T) {
	simulate(t, publish(t, 4*megabyte, megabyte/8), func(t *testing.T, n *network) {
		one, two := n.peer(1, quick, "+1-16"), n.peer(2, quick, "+9-20")
		origin := n.host("origin", quick).lists("listed", one, two).answer("/v1/have", tells("*1-20")).spoilWith(notFresh(20))
		n.swarm(t, origin)
		var sent []int
		for _, r := range origin.asked() {
			assert.Equal(t, "fresh", r.how())
			if r.status == http.StatusOK {
				sent = append(sent, r.number())
			}
		}
		assert.ElementsMatch(t, upTo(32)[20:], sent)
		assert.LessOrEqual(t, origin.atOnce(), 2)
		assert.Equal(t, upTo(20), slices.Sorted(slices.Values(append(one.numbers(), two.numbers()...))))
		for _, r := range append(one.asked(), two.asked()...) {
			assert.Equal(t, "peer", r.how())
			assert.Empty(t, r.header.Get("Shardcast-Tier"), "a peer is as far from the origin")
		}
		for _, p := range []*host{one, two} {
			for _, path := range p.others() {
				assert.Equal(t, "/v1/have", path, "nothing else is believed of a peer")
			}
		}
	})
}

// notFresh has the shards up to number n be no fresh ones.
func notFresh(n int) spoiler {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("Shardcast-Swarm") == "fresh" && (request{path: r.URL.Path}).number() <= n {
			w.WriteHeader(http.StatusConflict)
			return
		}
		next.ServeHTTP(w, r)
	}
}

func TestWhatIsNotFreshIsLeftToPeersAtOnce(t *testing.T) {
	simulate(t, publish(t, 4*megabyte, megabyte/8), func(t *testing.T, n *network) {
		peer := n.peer(1, quick).answer("/v1/have", tellsFrom(func(tell func(...string), over <-chan struct{}) {
			select {
			case <-time.After(time.Second): // it has come there by then
				tell("+1-20")
			case <-over:
			}
			<-over
		}))
		origin := n.host("origin", megabyte).lists("listed", peer).spoilWith(notFresh(20))
		got := n.swarm(t, origin)
		refused := origin.answered(http.StatusConflict)
		assert.NotEmpty(t, refused)
		once := make(map[int]int)
		for _, r := range refused {
			once[r.number()]++
			assert.Equal(t, 1, once[r.number()], "it is asked once whether shard %d is fresh", r.number())
		}
		assert.Equal(t, upTo(20), slices.Compact(peer.numbers()))
		got.assertWithin(t, 0.6, megabyte)
	})
}

// noSpare has there be nothing to spare, and the shards up to number n be no fresh ones.
func noSpare(n int) spoiler {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("Shardcast-Swarm") == "spare" {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		notFresh(n)(w, r, next)
	}
}

func TestWhatPeersHaveComesFromUpstreamOnlyIfThatHasItToSpare(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
		const later = 5 * time.Second
		peer := n.peer(1, megabyte).answer("/v1/have", tellsFrom(func(tell func(...string), over <-chan struct{}) {
			tell("+1")
			select {
			case <-time.After(later):
				tell("+2-64")
			case <-over:
			}
			<-over
		}))
		origin := n.host("origin", quick).lists("listed", peer).answer("/v1/have", tells("*1-64")).spoilWith(noSpare(64))
		got := n.swarm(t, origin)
		assert.Equal(t, upTo(64), slices.Compact(peer.numbers()), "it does not take what is quick there")
		asked := len(origin.answered(http.StatusServiceUnavailable))
		assert.Positive(t, asked)
		assert.Less(t, asked, 7*int(later/time.Second), "and asks for it less and less often")
		assert.Less(t, got.took, later+10*time.Second)
	})
}

func TestANodeThatGetsNothingAsksForMoreThanIsToSpare(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte), func(t *testing.T, n *network) {
		peer := n.peer(1, quick).answer("/v1/have", tells("+1-8")).spoilWith(by(hang))
		origin := n.host("origin", quick).lists("listed", peer).answer("/v1/have", tells("*1-8")).spoilWith(noSpare(8))
		got := n.swarm(t, origin)
		assert.Less(t, got.took, time.Minute)
		for _, r := range origin.answered(http.StatusOK) {
			assert.Equal(t, "upstream", r.how(), "shard %d", r.number())
		}
	})
}

func TestASwarmOfOneTakesAllFromUpstreamAtOnce(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/2), func(t *testing.T, n *network) {
		origin := n.host("origin", 4*megabyte).lists("listed").answer("/v1/have", tells(""))
		got := n.swarm(t, origin)
		assert.Equal(t, fetch.DefaultConcurrency, origin.atOnce())
		got.assertWithin(t, 1.1, 4*megabyte)
	})
}

// fetchedFirst fetches from origin, whose first shard is late, and returns which was the
// first to be right.
func (n *network) fetchedFirst(t *testing.T, origin *host) string {
	t.Helper()
	origin.spoilWith(only("shard_001", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		time.Sleep(3 * time.Second) // of the bubble
		next.ServeHTTP(w, r)
	}))
	right := n.swarm(t, origin).log.with("shard fetched")
	require.NotEmpty(t, right)
	return right[0]
}

func TestASwarmOfOneChecksShardsInTheirTurn(t *testing.T) {
	simulate(t, publish(t, 4*megabyte, megabyte/4), func(t *testing.T, n *network) {
		first := n.fetchedFirst(t, n.host("origin", quick).lists("listed"))
		assert.Contains(t, first, "shard=1 ", "whose digest and the file's are computed in one pass")
	})
}

func TestWithNeighboursEachShardIsCheckedByItself(t *testing.T) {
	simulate(t, publish(t, 4*megabyte, megabyte/4), func(t *testing.T, n *network) {
		first := n.fetchedFirst(t, n.host("origin", quick).lists("listed", n.peer(1, quick, "-1")))
		assert.NotContains(t, first, "shard=1 ", "they may have it at once")
	})
}

func TestWhatWaitsForItsTurnIsCheckedWhenNeighboursCome(t *testing.T) {
	simulate(t, publish(t, 4*megabyte, megabyte/4), func(t *testing.T, n *network) {
		peer := n.peer(1, quick, "-1")
		origin := n.host("origin", quick).answer("/peers.txt", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Shardcast-Peer", "listed")
			if time.Since(n.start) > time.Second { // all but the first shard have come
				_, _ = fmt.Fprintf(w, "http://%s:80\n", peer.name)
			}
		})
		first := n.fetchedFirst(t, origin)
		assert.NotContains(t, first, "shard=1 ", "they may have the others at once")
	})
}

func TestInASwarmOfOneAShardThatIsWrongInItsTurnComesAgain(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
		late := only("shard_032", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			time.Sleep(3 * time.Second) // of the bubble; others' turns come after that
			next.ServeHTTP(w, r)
		})
		var sent atomic.Int32
		bad := n.host("bad", megabyte).lists("listed").spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if sent.Add(1) > fetch.DefaultConcurrency { // it is known to have been right by then
				tampered(flipped)(w, r, next)
				return
			}
			late(w, r, next)
		})
		good := n.host("good", megabyte).lists("listed").spoilWith(late)
		got := n.swarm(t, bad, good)
		assert.Len(t, got.log.with("not asked again", "http://bad:80"), 1)
		assert.Len(t, got.log.with("shard fetched"), 64)
	})
}

func TestAnUpstreamIsAskedAgainAsSoonAsItHasSentAShard(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
		slots := make(chan bool, 8) // of ten workers two are sent away
		origin := n.host("origin", 4*megabyte).lists("listed").answer("/v1/have", tells("*1-64")).spoilWith(
			func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				select {
				case slots <- true:
					defer func() { <-slots }()
					next.ServeHTTP(w, r)
				default:
					w.Header().Set("Retry-After", "0")
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			})
		got := n.swarm(t, origin)
		assert.NotEmpty(t, origin.answered(http.StatusServiceUnavailable))
		got.assertWithin(t, 1.05, 4*megabyte)
	})
}

// Neighbours that are known are so from the first request on.
func TestNeighboursCountFromTheBegin(t *testing.T) {
	simulate(t, publish(t, 4*megabyte, megabyte/8), func(t *testing.T, n *network) {
		peer := n.peer(1, quick).answer("/v1/have", silence)
		origin := n.host("origin", quick).lists("listed", peer)
		n.swarm(t, origin)
		assert.Equal(t, 2, origin.atOnce())
	})
}

func TestWhoSwapsNothingAsksLikeAnybody(t *testing.T) {
	simulate(t, publish(t, megabyte, megabyte/8), func(t *testing.T, n *network) {
		origin := n.host("origin", quick)
		n.fetch(t, fetch.Options{}, origin)
		for _, r := range origin.asked() {
			assert.Empty(t, r.how())
		}
		assert.NotContains(t, origin.others(), "/peers.txt")
		assert.NotContains(t, origin.others(), "/v1/have")
	})
}

func TestAShardGoesOnElsewhereWhenAPeerBreaksOff(t *testing.T) {
	const half = megabyte / 2
	for name, tc := range map[string]struct {
		fault spoiler
		takes time.Duration // until it is noticed
	}{
		"breaks off": {faultAt(half, cut), 0},
		"stalls":     {faultAt(half, hang), 750 * time.Millisecond}, // all shards have begun to come, or it would be 5 s
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, 4*megabyte, megabyte), func(t *testing.T, n *network) {
				bad := n.peer(1, quick, "+1").spoilWith(tc.fault)
				good := n.peer(2, quick).answer("/v1/have", tellsFrom(func(tell func(...string), over <-chan struct{}) {
					time.Sleep(50 * time.Millisecond)
					tell("+1")
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

func TestARelayThatBreaksOffIsSoonAskedForWhatItHolds(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
		breaksOff := only("shard_001", oncePerPath(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			w.Header().Set("Shardcast-Tier", "1")
			faultAt(1000, cut)(w, r, next)
		}))
		peer := n.peer(1, quick, "~1 +2-64").spoilWith(breaksOff)
		origin := n.host("origin", quick).lists("listed", peer).answer("/v1/have", tells("*1-64")).spoilWith(noSpare(64))
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

// pauses returns the times between the requests that h was asked.
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
		"says no more":        {faultAt(1000, hang), 5 * time.Second},
		"answers 500":         {by(status(500)), 0},
		"answers 409":         {by(status(http.StatusConflict)), 0},
		"is busy, but slowly": {busyAfter(7 * time.Second), 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, 8*megabyte, megabyte/32), func(t *testing.T, n *network) {
				bad := n.peer(1, quick, "+1-256").spoilWith(tc.fault)
				origin := n.host("origin", megabyte/20).lists("listed", bad).answer("/v1/have", tells(""))
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

// What a peer is sending at the same time fails at the same time, which is one failure.
func TestAPeerThatDiesHasFailedOnce(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/32), func(t *testing.T, n *network) {
		dies := 3 * time.Second
		dead := func() bool { return time.Since(n.start) > dies }
		peer := n.peer(1, megabyte/2, "+1-256").spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if dead() {
				silence(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
		origin := n.host("origin", megabyte/20).lists("listed", peer).answer("/v1/have", tells(""))
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

// Peers that say that they have everything and send nothing hold up nobody for long.
func TestADownloadEndsWhateverMostPeersDo(t *testing.T) {
	const peers, size, speed = 16, 8 * megabyte, megabyte / 2
	always := tellsFrom(func(tell func(...string), over <-chan struct{}) {
		for {
			select {
			case <-time.After(20 * time.Millisecond):
				tell("+1-64")
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
				origin := n.host("origin", speed).lists("listed", bad...).answer("/v1/have", tells(""))
				got := n.swarm(t, origin)
				requests := 0
				for _, b := range bad {
					requests += len(b.asked())
				}
				t.Logf("took %v, %v from upstream alone; %d requests of peers", got.took, time.Duration(size/speed)*time.Second, requests)
				patience := 30 * time.Second
				if strings.Contains(name, "well") {
					patience *= 5 // each has to be found out in turn
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

// wellAtFirst has the first request answered well, and the others by h.
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

func TestPeersThatSendWrongBytesAreFoundAndNotAskedAgain(t *testing.T) {
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
					origin := n.host("origin", megabyte/2).lists("listed", peers...).answer("/v1/have", tells("*1-64"))
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
					// One may have sent the same lie as another one, who replaced it.
					assert.GreaterOrEqual(t, found, len(peers)-good-map[string]int{"part": 2}[name])
				})
			})
		}
	}
}

func TestOnlyUpstreamsAreBelievedOfWhatIsOnOffer(t *testing.T) {
	simulate(t, publish(t, 2*megabyte, megabyte/8), func(t *testing.T, n *network) {
		lie := func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintf(w, "v9: %064d\n", 7) }
		peer := n.peer(1, quick, "+1-8").answer("/distribution.txt", lie).answer("/v1/manifest.json", lie).answer("/peers.txt", lie)
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

func TestWhatAPeerSaysOfWhatItHasIsNotBelieved(t *testing.T) {
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
		asks int   // how often it is asked in 30 s at most
		sent int64 // bytes
	}{
		"garbage":                 {text("what?\n"), 1, 10_000},
		"another page":            {text("<html>\n<body>"), 1, 10_000},
		"a line without an end":   {endless("+1 "), 1, 100_000},
		"a line of one character": {endless("x"), 1, 100_000},
		"a line at a time":        {endless("+1\n"), 1, 50_000},
		"nothing at a time":       {endless("\n"), 1, 50_000},
		"changes at a time":       {endless("+1-64\n-1-64\n"), 1, 50_000},
		"more shards":             {tells("+1-65"), 1, 10_000},
		"one shard twice":         {tells("+1-64 -1-64"), 1, 10_000},
		"nothing at all":          {silence, 6, 10_000},
		"no answer":               {status(http.StatusNotFound), 42, 10_000},
		"an error":                {status(http.StatusInternalServerError), 42, 10_000},
		"its end":                 {text("+3-5\n"), 42, 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, 64<<10, 1<<10), func(t *testing.T, n *network) {
				peer := n.peer(1, megabyte).answer("/v1/have", tc.have).spoilWith(by(status(http.StatusNotFound)))
				origin := n.host("origin", 2100).lists("listed", peer).answer("/v1/have", tells(""))
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
		self := n.peer(2, quick, "") // whose request this is
		origin := n.host("203.0.113.1", quick)
		origin.answer("/peers.txt", func(w http.ResponseWriter, _ *http.Request) {
			for _, at := range []string{
				"203.0.113.1:80", "127.0.0.1:80", "10.0.0.1:80", "169.254.169.254:80", "[::1]:80", "0.0.0.0:80", "224.0.0.1:80",
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
			ok := at == "203.0.113.1:80" || at == self.name+":80" || at == peer.name+":80" || strings.HasPrefix(at, "198.51.100.")
			assert.True(t, ok, at)
		}
		assert.Contains(t, dialed, peer.name+":80")
		assert.LessOrEqual(t, len(dialed), 1+16)
		for _, r := range origin.asked() {
			assert.NotEqual(t, "peer", r.how(), "an upstream is no peer")
		}
	})
}

func TestUpstreamGoesDownAndPeersHaveTheRest(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
		peer := n.peer(1, megabyte).answer("/v1/have", tellsFrom(func(tell func(...string), over <-chan struct{}) {
			tell("+2-40")
			select {
			case <-time.After(6 * time.Second):
				tell("+1-64")
			case <-over:
			}
			<-over
		}))
		origin := n.host("origin", megabyte/2).lists("listed", peer).answer("/v1/have", tells("")).outage(time.Second, time.Hour)
		got := n.swarm(t, origin)
		assert.LessOrEqual(t, got.took, 15*time.Second)
		assert.Empty(t, got.log.with("not asked again"))
	})
}

func TestUpstreamGoesDownAndNobodyHasTheRest(t *testing.T) {
	for name, lies := range map[string]spoiler{"an honest peer": nil, "one that lied": tampered(flipped)} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
				peer := n.peer(1, quick, "+1-10").spoilWith(lies)
				origin := n.host("origin", megabyte/2).lists("listed", peer).answer("/v1/have", tells("")).outage(time.Second, time.Hour)
				got, err := n.trySwarm(t, fetch.Options{}, new(memory), origin)
				require.ErrorIs(t, err, fetch.ErrUnreachable)
				require.NotErrorIs(t, err, fetch.ErrIntegrity)
				assert.Empty(t, got.log.with("manifest not believed"))
				t.Log(got.took, err)
				assert.Greater(t, got.took, 15*time.Second, "it is tried again")
				assert.Less(t, got.took, 45*time.Second)
			})
		})
	}
}

func TestUpstreamIsWrongAndPeersHaveTheRest(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
		peer := n.peer(1, megabyte, "+1-64")
		origin := n.host("origin", megabyte).lists("listed", peer).answer("/v1/have", tells("")).spoilWith(tampered(flipped))
		// What the peer has is not fresh, so the origin is asked first while that is not known.
		peer.answer("/v1/have", tellsFrom(func(tell func(...string), over <-chan struct{}) {
			select {
			case <-time.After(time.Second):
				tell("+1-64")
			case <-over:
			}
			<-over
		}))
		got, err := n.trySwarm(t, fetch.Options{}, new(memory), origin)
		assert.Len(t, got.log.with("not asked again", "http://origin:80"), 1)
		assert.ErrorIs(t, err, fetch.ErrIntegrity, "nobody had it when that was found out")
	})
}

func TestANodeOfASwarmUsesAnUpstreamThatGetsTheVersionMeanwhile(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
		early, late := n.host("early", megabyte), n.host("late", megabyte)
		late.answer("/distribution.txt", func(w http.ResponseWriter, _ *http.Request) {
			if time.Since(n.start) > 500*time.Millisecond {
				_, _ = w.Write(n.version.files["/distribution.txt"])
			}
		})
		n.swarm(t, early, late)
		assert.NotEmpty(t, late.asked())
	})
}

func TestUpstreamRetiresTheVersionMidway(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
		peer := n.peer(1, quick, "+1-10")
		origin := n.host("origin", megabyte).lists("listed", peer).answer("/v1/have", tells(""))
		retired := func() bool { return time.Since(n.start) > 2*time.Second }
		origin.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if retired() {
				http.NotFound(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
		origin.answer("/distribution.txt", func(w http.ResponseWriter, _ *http.Request) {
			if retired() {
				_, _ = fmt.Fprintf(w, "v2: %064d\n", 1)
				return
			}
			_, _ = w.Write(n.version.files["/distribution.txt"])
		})
		got, err := n.trySwarm(t, fetch.Options{}, new(memory), origin)
		require.ErrorIs(t, err, fetch.ErrNoVersion)
		assert.Less(t, got.took, 4*time.Second)
	})
}

func TestAnUpstreamThatIsBusyForEverIsGivenUp(t *testing.T) {
	simulate(t, publish(t, 2*megabyte, megabyte/8), func(t *testing.T, n *network) {
		peer := n.peer(1, quick, "+1-8")
		origin := n.host("origin", quick).lists("listed", peer).spoilWith(busyAfter(0))
		got, err := n.trySwarm(t, fetch.Options{}, new(memory), origin)
		require.ErrorContains(t, err, "503")
		assert.Less(t, got.took, 15*time.Minute)
		assert.Greater(t, got.took, 9*time.Minute)
	})
}

func TestAnUpstreamThatSaysSentOfWhatNeedNotBeFreshIsGivenUp(t *testing.T) {
	simulate(t, publish(t, 2*megabyte, megabyte/8), func(t *testing.T, n *network) {
		origin := n.host("origin", quick).lists("listed", n.peer(1, quick, "+1-8")).spoilWith(by(status(http.StatusConflict)))
		got, err := n.trySwarm(t, fetch.Options{}, new(memory), origin)
		require.ErrorContains(t, err, "409")
		assert.Less(t, got.took, time.Minute)
		assert.Less(t, len(origin.asked()), 50)
	})
}

func TestOneOfSeveralUpstreamsOfASwarmIsDown(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
		peer := n.peer(1, quick, "+1")
		down := n.host("down", quick).spoilWith(faultAt(1000, cut))
		origin := n.host("origin", megabyte).lists("listed", peer)
		got := n.swarm(t, origin, down)
		got.assertWithin(t, 1.3, megabyte)
	})
}

func TestASwarmEndsWithItsContext(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
		peer := n.peer(1, 1000, "+1-64")
		origin := n.host("origin", 1000).lists("listed", peer)
		pool := n.swarmed(t, fetch.Options{}, origin)
		why := fmt.Errorf("enough")
		ctx, end := context.WithCancelCause(t.Context())
		time.AfterFunc(3*time.Second, func() { end(why) })
		start := time.Now()
		_, err := relayTo(ctx, pool, new(memory))
		require.ErrorIs(t, err, why)
		assert.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestWhatSomebodyWaitsForComesFirstInASwarm(t *testing.T) {
	simulate(t, publish(t, 16*megabyte, megabyte/8), func(t *testing.T, n *network) {
		peer := n.peer(1, megabyte, "+65-128")
		origin := n.host("origin", megabyte/2).lists("listed", peer).answer("/v1/have", tells(""))
		sink := &memory{wanted: make(chan int, 128)}
		time.AfterFunc(2*time.Second, func() {
			sink.wanted <- 64 // of upstream
			sink.wanted <- 128
		})
		got, err := n.trySwarm(t, fetch.Options{}, sink, origin)
		require.NoError(t, err)
		n.checkResult(t, sink, got.Progress)
		for _, want := range []struct {
			h      *host
			number int
		}{{origin, 64}, {peer, 128}} {
			asked := want.h.asked()
			i := slices.IndexFunc(asked, func(r request) bool { return r.at > 2*time.Second+300*time.Millisecond })
			at := slices.IndexFunc(asked, func(r request) bool { return r.number() == want.number })
			assert.LessOrEqual(t, at, i+1, "%s is asked for %d next", want.h.name, want.number)
		}
	})
}

// Who waits for a shard that has begun to come does not say so again.
func TestWhatSomebodyWaitsForComesFirstAlsoAfterAPeerHasFailed(t *testing.T) {
	simulate(t, publish(t, 16*megabyte, megabyte/8), func(t *testing.T, n *network) {
		peer := n.peer(1, megabyte, "+128").spoilWith(faultAt(1000, cut))
		origin := n.host("origin", megabyte).lists("listed", peer).answer("/v1/have", tells(""))
		sink := &memory{asked: map[int]bool{128: true}}
		_, err := n.trySwarm(t, fetch.Options{}, sink, origin)
		require.NoError(t, err)
		at := slices.IndexFunc(origin.asked(), func(r request) bool { return r.number() == 128 })
		assert.Less(t, at, 8)
	})
}

func TestWhatIsThereIsCheckedAndUsedInASwarm(t *testing.T) {
	simulate(t, publish(t, 4*megabyte, megabyte), func(t *testing.T, n *network) {
		peer := n.peer(1, quick, "+1-4")
		origin := n.host("origin", quick).lists("listed", peer)
		sink := new(memory)
		sink.keep(1, bytes.Clone(n.version.data[:megabyte]))
		sink.keep(2, bytes.Clone(n.version.data[megabyte:megabyte+300_000]))
		sink.keep(3, flipped(bytes.Clone(n.version.data[2*megabyte:3*megabyte])))
		got, err := n.trySwarm(t, fetch.Options{}, sink, origin)
		require.NoError(t, err)
		n.checkResult(t, sink, got.Progress)
		assert.Equal(t, int64(megabyte+300_000), got.Resumed)
		assert.Empty(t, got.log.with("not asked again"))
		for _, r := range append(origin.asked(), peer.asked()...) {
			assert.NotEqual(t, 1, r.number())
			if r.number() == 2 {
				assert.Equal(t, fmt.Sprintf("bytes=300000-%d", megabyte-1), r.asked)
			}
		}
	})
}

func TestWhoNobodyCanGetAtTakesLittleAndNothingFresh(t *testing.T) {
	for standing, reader := range map[string]bool{"unreachable": true, "refused": true, "pending": false, "listed": false, "": false, "what?": false} {
		t.Run(standing, func(t *testing.T) {
			simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
				peer := n.peer(1, megabyte, "+1-32")
				origin := n.host("origin", megabyte).lists(standing, peer).answer("/v1/have", tells("*40-50"))
				n.swarm(t, origin)
				fresh := slices.ContainsFunc(origin.asked(), func(r request) bool { return r.how() == "fresh" })
				assert.Equal(t, !reader, fresh)
				if !reader {
					return
				}
				assert.LessOrEqual(t, peer.atOnce()+origin.atOnce(), 2+3)
				assert.LessOrEqual(t, peer.atOnce(), 3)
				i := slices.IndexFunc(origin.asked(), func(r request) bool { return r.at > 350*time.Millisecond })
				assert.GreaterOrEqual(t, origin.asked()[i].number(), 40, "what has been sent before is taken first")
			})
		})
	}
}

func TestOneUpstreamThatListsANodeIsEnough(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
		peer := n.peer(1, megabyte, "+1-32")
		one := n.host("one", megabyte).lists("unreachable", peer)
		two := n.host("two", megabyte).lists("listed", peer)
		n.swarm(t, one, two)
		assert.Greater(t, peer.atOnce(), 3)
	})
}

func TestWithoutNeighboursAReaderIsLikeAnybody(t *testing.T) {
	simulate(t, publish(t, 4*megabyte, megabyte/8), func(t *testing.T, n *network) {
		origin := n.host("origin", megabyte).lists("unreachable")
		n.swarm(t, origin)
		assert.Equal(t, fetch.DefaultConcurrency, origin.atOnce())
	})
}

// counted counts the places that are open.
type counted struct {
	memory

	open, most atomic.Int32
}

type countedPlace struct {
	fetch.Place

	sink *counted
}

func (c *counted) Open(s shard.Shard) (fetch.Place, error) {
	p, err := c.memory.Open(s)
	if open := c.open.Add(1); open > c.most.Load() {
		c.most.Store(open)
	}
	return countedPlace{p, c}, err
}

func (p countedPlace) Close() error {
	p.sink.open.Add(-1)
	return p.Place.Close()
}

func TestOpenPlacesAreBounded(t *testing.T) {
	const shards = 1024
	for name, tc := range map[string]struct {
		peers, upstream spoiler
	}{
		"peers do not have what they told of": {by(status(http.StatusNotFound)), nil},
		"nothing is fresh":                    {nil, notFresh(shards)},
		"peers break off":                     {faultAt(100, cut), nil},
		"peers break off, and upstream": {nil, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Header.Get("Range") == "" {
				faultAt(300, cut)(w, r, next)
				return
			}
			next.ServeHTTP(w, r)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, shards<<10, 1<<10), func(t *testing.T, n *network) {
				var peers []*host
				for i := range 16 {
					p := n.peer(i, megabyte, "+1-1024").spoilWith(tc.peers)
					if tc.peers == nil {
						p.answer("/v1/have", tells(""))
					}
					peers = append(peers, p)
				}
				origin := n.host("origin", megabyte).lists("listed", peers...).spoilWith(tc.upstream)
				sink := new(counted)
				got, err := n.trySwarm(t, fetch.Options{FastWait: time.Millisecond}, sink, origin)
				require.NoError(t, err)
				n.checkResult(t, &sink.memory, got.Progress)
				t.Logf("took %v, %d open at most", got.took, sink.most.Load())
				assert.LessOrEqual(t, sink.most.Load(), int32(32+10+2))
				assert.Zero(t, sink.open.Load())
			})
		})
	}
}
