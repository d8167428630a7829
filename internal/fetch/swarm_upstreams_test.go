package fetch_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

func TestUpstreamGoesDownAndPeersHaveTheRest(t *testing.T) {
	simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
		peer := n.peer(1, megabyte).answer("/v1/have",
			announcesFrom(func(announce func(...string), over <-chan struct{}) {
				announce("+2-40")
				select {
				case <-time.After(6 * time.Second):
					announce("+1-64")
				case <-over:
				}
				<-over
			}))
		origin := n.host("origin", megabyte/2).lists("listed", peer).answer("/v1/have", announces(""))
		origin.outage(time.Second, time.Hour)
		got := n.swarm(t, origin)
		assert.LessOrEqual(t, got.took, 15*time.Second)
		assert.Empty(t, got.log.with("not asked again"))
	})
}

func TestUpstreamGoesDownAndNoPeerHasTheRest(t *testing.T) {
	for name, lies := range map[string]spoiler{"an honest peer": nil, "one that lied": tampered(flipped)} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
				peer := n.peer(1, quick, "+1-10").spoilWith(lies)
				origin := n.host("origin", megabyte/2).lists("listed", peer).answer("/v1/have",
					announces("")).outage(time.Second, time.Hour)
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
		origin := n.host("origin", megabyte).lists("listed", peer).answer("/v1/have",
			announces("")).spoilWith(tampered(flipped))
		// The shards of a peer are not fresh, so that the origin is asked first only before the
		// peer announces them.
		peer.answer("/v1/have", announcesFrom(func(announce func(...string), over <-chan struct{}) {
			select {
			case <-time.After(time.Second):
				announce("+1-64")
			case <-over:
			}
			<-over
		}))
		got, err := n.trySwarm(t, fetch.Options{}, new(memory), origin)
		assert.Len(t, got.log.with("not asked again", "http://origin:80"), 1)
		assert.ErrorIs(t, err, fetch.ErrIntegrity, "no peer had it when the origin was found wrong")
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
		origin := n.host("origin", megabyte).lists("listed", peer).answer("/v1/have", announces(""))
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

func TestAnUpstreamThatWronglyAnswersNotFreshIsGivenUp(t *testing.T) {
	simulate(t, publish(t, 2*megabyte, megabyte/8), func(t *testing.T, n *network) {
		origin := n.host("origin", quick).lists("listed",
			n.peer(1, quick, "+1-8")).spoilWith(by(status(http.StatusConflict)))
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

func TestAShardThatAReaderWaitsForComesFirstInASwarm(t *testing.T) {
	simulate(t, publish(t, 16*megabyte, megabyte/8), func(t *testing.T, n *network) {
		peer := n.peer(1, megabyte, "+65-128")
		origin := n.host("origin", megabyte/2).lists("listed", peer).answer("/v1/have", announces(""))
		sink := &memory{wanted: make(chan int, 128)}
		time.AfterFunc(2*time.Second, func() {
			sink.wanted <- 64 // from upstream
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

// A reader that waits for an arriving shard does not ask for it again.
func TestAShardThatAReaderWaitsForComesFirstAlsoAfterAPeerHasFailed(t *testing.T) {
	simulate(t, publish(t, 16*megabyte, megabyte/8), func(t *testing.T, n *network) {
		peer := n.peer(1, megabyte, "+128").spoilWith(faultAt(1000, cut))
		origin := n.host("origin", megabyte).lists("listed", peer).answer("/v1/have", announces(""))
		sink := &memory{asked: map[int]bool{128: true}}
		_, err := n.trySwarm(t, fetch.Options{}, sink, origin)
		require.NoError(t, err)
		at := slices.IndexFunc(origin.asked(), func(r request) bool { return r.number() == 128 })
		assert.Less(t, at, 8)
	})
}

func TestPartialDataIsCheckedAndUsedInASwarm(t *testing.T) {
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

func TestAnUnreachableNodeTakesLittleAndNothingFresh(t *testing.T) {
	for standing, reader := range map[string]bool{
		"unreachable": true, "refused": true, "pending": false,
		"listed": false, "": false, "what?": false,
	} {
		t.Run(standing, func(t *testing.T) {
			simulate(t, publish(t, 8*megabyte, megabyte/8), func(t *testing.T, n *network) {
				peer := n.peer(1, megabyte, "+1-32")
				origin := n.host("origin", megabyte).lists(standing, peer).answer("/v1/have", announces("*40-50"))
				n.swarm(t, origin)
				fresh := slices.ContainsFunc(origin.asked(), func(r request) bool { return r.how() == "fresh" })
				assert.Equal(t, !reader, fresh)
				if !reader {
					return
				}
				assert.LessOrEqual(t, peer.atOnce()+origin.atOnce(), 2+3)
				assert.LessOrEqual(t, peer.atOnce(), 3)
				i := slices.IndexFunc(origin.asked(), func(r request) bool { return r.at > 350*time.Millisecond })
				assert.GreaterOrEqual(t, origin.asked()[i].number(), 40, "shards that were sent before come first")
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

func TestWithoutNeighboursAReaderIsLikeAnyClient(t *testing.T) {
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
		"peers lack the shards they announced": {by(status(http.StatusNotFound)), nil},
		"nothing is fresh":                     {nil, notFresh(shards)},
		"peers break off":                      {faultAt(100, cut), nil},
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
						p.answer("/v1/have", announces(""))
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
