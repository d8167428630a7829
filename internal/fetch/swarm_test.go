package fetch_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
)

const quick = 16 * megabyte // bytes per second

func TestNodeTakesHeldShardsFromPeersAndFreshOnesFromUpstream(t *testing.T) {
	simulate(t, publish(t, 4*megabyte, megabyte/8), func(t *testing.T, n *network) {
		one, two := n.peer(1, quick, "+1-16"), n.peer(2, quick, "+9-20")
		origin := n.host("origin", quick).lists("listed", one, two).answer("/v1/have",
			announces("*1-20")).spoilWith(notFresh(20))
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
				assert.Equal(t, "/v1/have", path, "a node asks a peer only for shards and their announcements")
			}
		}
	})
}

// notFresh refuses the shards up to number n as not fresh.
func notFresh(n int) spoiler {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("Shardcast-Swarm") == "fresh" && (request{path: r.URL.Path}).number() <= n {
			w.WriteHeader(http.StatusConflict)
			return
		}
		next.ServeHTTP(w, r)
	}
}

func TestShardsThatAreNotFreshAreLeftToPeersAtOnce(t *testing.T) {
	simulate(t, publish(t, 4*megabyte, megabyte/8), func(t *testing.T, n *network) {
		peer := n.peer(1, quick).answer("/v1/have", announcesFrom(func(announce func(...string), over <-chan struct{}) {
			select {
			case <-time.After(time.Second): // the shards have arrived there by then
				announce("+1-20")
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
			assert.Equal(t, 1, once[r.number()], "the requests for shard %d as fresh", r.number())
		}
		assert.Equal(t, upTo(20), slices.Compact(peer.numbers()))
		got.assertWithin(t, 0.6, megabyte)
	})
}

// noSpare spares no shard, and refuses those up to number n as not fresh.
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

func TestUpstreamSendsShardsOfPeersOnlyIfItCanSpareThem(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
		const later = 5 * time.Second
		peer := n.peer(1, megabyte).answer("/v1/have",
			announcesFrom(func(announce func(...string), over <-chan struct{}) {
				announce("+1")
				select {
				case <-time.After(later):
					announce("+2-64")
				case <-over:
				}
				<-over
			}))
		origin := n.host("origin", quick).lists("listed", peer).answer("/v1/have",
			announces("*1-64")).spoilWith(noSpare(64))
		got := n.swarm(t, origin)
		assert.Equal(t, upTo(64), slices.Compact(peer.numbers()), "not all shards came from the peer")
		asked := len(origin.answered(http.StatusServiceUnavailable))
		assert.Positive(t, asked)
		assert.Less(t, asked, 14*int(later/time.Second), "it asks upstream less and less often")
		assert.Less(t, got.took, later+10*time.Second)
	})
}

func TestANodeThatGetsNothingAsksUpstreamWithoutCondition(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte), func(t *testing.T, n *network) {
		peer := n.peer(1, quick).answer("/v1/have", announces("+1-8")).spoilWith(by(hang))
		origin := n.host("origin", quick).lists("listed", peer).answer("/v1/have",
			announces("*1-8")).spoilWith(noSpare(8))
		got := n.swarm(t, origin)
		assert.Less(t, got.took, time.Minute)
		for _, r := range origin.answered(http.StatusOK) {
			assert.Equal(t, "upstream", r.how(), "shard %d", r.number())
		}
	})
}

func TestASwarmOfOneTakesAllFromUpstreamAtOnce(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/2), func(t *testing.T, n *network) {
		origin := n.host("origin", 4*megabyte).lists("listed").answer("/v1/have", announces(""))
		got := n.swarm(t, origin)
		assert.Equal(t, fetch.DefaultConcurrency, origin.atOnce())
		got.assertWithin(t, 1.1, 4*megabyte)
	})
}

func TestANodeTakesTwiceAsManyShardsFromAnUpstreamThatIsFar(t *testing.T) {
	for away, want := range map[time.Duration]int{0: 4, 20 * time.Millisecond: 9} { // of 9 and 18, for two nodes
		simulate(t, publish(t, 16*megabyte, megabyte/8), func(t *testing.T, n *network) {
			peer := n.peer(1, quick).isAway(away).answer("/v1/have", announces(""))
			origin := n.host("origin", 2*megabyte).isAway(away).lists("listed", peer).answer("/v1/have", announces(""))
			n.swarm(t, origin)
			assert.Equal(t, want, origin.atOnce(), "at %v", away)
		})
	}
}

// fetchedFirst fetches from origin, whose first shard is late, and returns the log line of
// the first shard that was right.
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
		assert.Contains(t, first, "shard=1 ", "the digests of shard 1 and of the file are computed in one pass")
	})
}

func TestWithNeighboursEachShardIsCheckedByItself(t *testing.T) {
	simulate(t, publish(t, 4*megabyte, megabyte/4), func(t *testing.T, n *network) {
		first := n.fetchedFirst(t, n.host("origin", quick).lists("listed", n.peer(1, quick, "-1")))
		assert.NotContains(t, first, "shard=1 ", "neighbours may have a shard at once")
	})
}

func TestWaitingShardsAreCheckedWhenNeighboursCome(t *testing.T) {
	simulate(t, publish(t, 4*megabyte, megabyte/4), func(t *testing.T, n *network) {
		peer := n.peer(1, quick, "-1")
		origin := n.host("origin", quick).answer("/peers.txt", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Shardcast-Peer", "listed")
			if time.Since(n.start) > time.Second { // all but the first shard have come
				_, _ = fmt.Fprintf(w, "http://%s:80\n", peer.name)
			}
		})
		first := n.fetchedFirst(t, origin)
		assert.NotContains(t, first, "shard=1 ", "neighbours may have the others at once")
	})
}

func TestInASwarmOfOneAShardThatIsWrongInItsTurnComesAgain(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
		late := only("shard_032", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			time.Sleep(3 * time.Second) // of the bubble; others' turns come after that
			next.ServeHTTP(w, r)
		})
		var sent atomic.Int32
		bad := n.host("bad", megabyte).lists("listed")
		bad.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if sent.Add(1) > fetch.DefaultConcurrency { // the server has sent right shards by then
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
		slots := make(chan bool, 8) // two of ten workers are refused
		origin := n.host("origin", 4*megabyte).lists("listed").answer("/v1/have", announces("*1-64")).spoilWith(
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

// Known neighbours count from the first request on.
func TestNeighboursCountFromTheBegin(t *testing.T) {
	simulate(t, publish(t, 4*megabyte, megabyte/8), func(t *testing.T, n *network) {
		peer := n.peer(1, quick).answer("/v1/have", silence)
		origin := n.host("origin", quick).lists("listed", peer)
		n.swarm(t, origin)
		assert.Equal(t, 4, origin.atOnce(), "half of nine")
	})
}

func TestANodeOutsideASwarmAsksLikeAnyClient(t *testing.T) {
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
