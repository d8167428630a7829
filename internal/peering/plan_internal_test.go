package peering

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/rank"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/transfer"
	"github.com/shardcast/shardcast/internal/verify"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	shards  = 20
	workers = 10
)

// readers is an audience that waits for nothing.
type readers struct{ wanted chan int }

func (r readers) Wanted() <-chan int { return r.wanted }
func (readers) Asked(int) bool       { return false }
func (readers) From(int, bool)       {}
func (readers) Forget(int)           {}

// anything is a version that all servers may be asked for, but those that were refused.
type anything struct {
	refused map[*remote.Server]error
	again   int
}

func (a *anything) Refused(s *remote.Server) error { return a.refused[s] }

func (a *anything) Refuse(_ context.Context, s *remote.Server, err error) { a.refused[s] = err }

func (a *anything) Job(do func(*remote.Server) error) roster.Job {
	return roster.Job{
		May: func(s *remote.Server) bool { return a.refused[s] == nil }, Do: do, Refuse: a.Refuse,
		Gone:   func(context.Context, *remote.Server) bool { return false },
		Again:  func(context.Context) { a.again++ },
		Failed: func(errs []error) error { return errors.Join(errs...) },
		Logger: slog.New(slog.DiscardHandler),
	}
}

// planOf returns the plan of a version without a transfer.
func planOf(w *Swarm, version shard.Version) *Plan {
	states, call := func() []transfer.State { return nil }, func(transfer.Progress) {}
	return w.Plan(PlanOptions{
		Version: version, Shards: shards, Audience: readers{}, Want: &anything{refused: make(map[*remote.Server]error)},
		Verifier: verify.New(verify.Options{}), Workers: workers, Attempts: 3, Waits: waits,
		Tally:  transfer.NewTally(version, w.opts.Roster, nil, states, call),
		Logger: slog.New(slog.DiscardHandler),
	})
}

// taken returns how many shards p picks before it waits.
func taken(p *Plan) (n int) {
	for {
		if pick, _, _ := p.choose(); pick.Shard == 0 {
			return n
		}
		n++
	}
}

// met returns peers that p swaps shards with.
func met(p *Plan, peers int) []*neighbour {
	nodes := make([]*neighbour, peers)
	for i := range nodes {
		nodes[i] = p.meet(&peer{server: remote.NewServer(at("192.0.2.%d:80", i))}, func() {})
	}
	return nodes
}

func TestANewerVersionComesFirst(t *testing.T) {
	w, _ := swarmOf(t, Options{}, at("a:80"))
	older, newer := planOf(w, 1), planOf(w, 2)
	assert.Equal(t, behindWorkers, taken(older))
	assert.Equal(t, workers, taken(newer))
	newer.Close()
	assert.Equal(t, workers-behindWorkers, taken(older), "the rest of its workers")
	older.Close()
	older.Close()
	assert.Empty(t, w.under)
}

func TestANodeThatMayNotKnowItsPeersTakesOneShardAtATime(t *testing.T) {
	for name, c := range map[string]struct {
		peers int
		young time.Duration
		then  int
	}{
		"alone":           {0, firstPeers, workers},
		"with a peer":     {1, mostPeers, 4},
		"with many peers": {16, mostPeers, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, _ := swarmOf(t, Options{}, at("a:80"))
				w.began = time.Now()
				p := planOf(w, 1)
				defer p.Close()
				met(p, c.peers)
				assert.Equal(t, 1, taken(p))
				_, _, next := p.choose()
				assert.Equal(t, c.young, time.Until(next), "when it looks again")
				time.Sleep(time.Until(next))
				assert.Equal(t, c.then-1, taken(p))
			})
		})
	}
}

func TestANodeThatNoPeerReachesTakesLessWhileItHasNeighbours(t *testing.T) {
	w, upstreams := swarmOf(t, Options{}, at("a:80"))
	w.meet(upstreams[0], nil, swarm.Unreachable)
	p := planOf(w, 1)
	defer p.Close()
	n := met(p, 1)[0]
	n.sound = true
	p.has(n.number, swarm.Change{State: swarm.Held, From: 1, To: shards})
	assert.Equal(t, readerWorkers, taken(p))
	p.leave(n)
	assert.Equal(t, workers-readerWorkers, taken(p), "as any node without neighbours")
}

// Nodes that send nothing hold up no more than others do.
func TestAPeerThatIsNotSoundIsAskedForOneShard(t *testing.T) {
	w, _ := swarmOf(t, Options{}, at("a:80"))
	p := planOf(w, 1)
	defer p.Close()
	p.up.later = time.Now().Add(time.Hour)
	nodes := met(p, workers)
	for _, n := range nodes {
		p.has(n.number, swarm.Change{State: swarm.Held, From: 1, To: shards})
	}
	assert.Equal(t, workers-1, taken(p), "one worker is left for upstream")
	for _, n := range nodes {
		assert.LessOrEqual(t, p.picker.Under(n.number), 1)
	}
	nodes[0].sound = true
	assert.Equal(t, 1, taken(p), "a sound one is asked for many")
}

func TestAPeerThatWasPutOffIsNotAskedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := swarmOf(t, Options{}, at("a:80"))
		p := planOf(w, 1)
		defer p.Close()
		p.up.later = time.Now().Add(time.Hour)
		n := met(p, 1)[0]
		n.sound = true
		p.has(n.number, swarm.Change{State: swarm.Held, From: 1, To: shards})
		p.putOff(n, 300*time.Millisecond)
		p.putOff(n, time.Millisecond)
		pick, _, next := p.choose()
		assert.Zero(t, pick.Shard)
		assert.Equal(t, 300*time.Millisecond, time.Until(next))
		time.Sleep(time.Until(next))
		pick, from, _ := p.choose()
		assert.Equal(t, n, from)
		assert.Equal(t, n.number, pick.Node)
	})
}

func TestANodeThatGetsNothingAsksUpstreamLikeAnyOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := swarmOf(t, Options{}, at("a:80"))
		p := planOf(w, 1)
		defer p.Close()
		n := met(p, 1)[0]
		n.later = time.Now().Add(time.Hour)
		p.has(n.number, swarm.Change{State: swarm.Held, From: 1, To: shards})
		as := func() string {
			pick, _, _ := p.choose()
			p.picker.Drop(pick)
			p.under--
			return pick.As
		}
		assert.Equal(t, swarm.AsSpare, as())
		time.Sleep(5 * time.Second)
		assert.Equal(t, swarm.AsUpstream, as())
		p.noteRefused()
		time.Sleep(15 * time.Second)
		assert.Empty(t, as(), "it needs no slot for nodes then")
		w.opts.Roster.Flow.Came()
		assert.Equal(t, swarm.AsSpare, as())
	})
}

func TestTheFirstNeighbourHasShardsCheckedOneByOne(t *testing.T) {
	w, _ := swarmOf(t, Options{}, at("a:80"))
	p := planOf(w, 1)
	defer p.Close()
	m := shard.Manifest{Size: 2, ShardSize: 1, Shards: make([]shard.Digest, 2)}
	p.opts.Verifier = verify.New(verify.Options{Manifest: m})
	c := p.opts.Verifier.Began(m.Shard(2), strings.NewReader("x"), 1)
	for _, err := range p.opts.Verifier.Came(t.Context(), c, make([]byte, 10)) {
		require.Fail(t, "it is not its turn", "%v", err)
	}
	early := func(int) bool { return false }
	require.Nil(t, p.opts.Verifier.Waiting(early))
	met(p, 1)
	assert.Equal(t, c, p.opts.Verifier.Waiting(early))
}

func TestAPeerThatFailsIsLeftAloneForTwiceAsLongEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := swarmOf(t, Options{}, at("a:80"))
		p := planOf(w, 1)
		defer p.Close()
		n := met(p, 1)[0]
		for _, want := range []time.Duration{5, 10, 20, 40, 80, 80} {
			want *= time.Second
			time.Sleep(time.Second)
			start := time.Now()
			time.Sleep(time.Second)
			assert.InDelta(t, want, p.failedAt(n, start), float64(want)/4)
			assert.Zero(t, p.failedAt(n, start), "a request that began before has failed with that")
		}
		n.pause.Reset()
		time.Sleep(time.Second)
		assert.InDelta(t, peerPause, p.failedAt(n, time.Now()), float64(peerPause)/4)
	})
}

// hears has a plan ask a peer for its list of shards once.
func hears(t *testing.T, h http.HandlerFunc) (p *Plan, n *neighbour, hear func() error) {
	t.Helper()
	w, upstreams := swarmOf(t, Options{Remote: clientOf(t, h)}, at("a:80"))
	w.meet(upstreams[0], named("192.0.2.1:80"), swarm.Listed)
	p = planOf(w, 1)
	t.Cleanup(p.Close)
	n = p.meet(w.named[upstreams[0]][0], func() {})
	return p, n, func() error { return p.hearOnce(t.Context(), n.number, n.peer.server, n.peer) }
}

func TestAPeerThatDoesNotListItsShardsGivesWayToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		code := http.StatusInternalServerError
		p, n, hear := hears(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
		upstream := p.swarm.opts.Roster.Servers()[0]
		for range deafAfter - 1 {
			require.Error(t, hear())
		}
		p.swarm.meet(upstream, sixteen(1), swarm.Listed)
		assert.Contains(t, p.swarm.named[upstream], n.peer)
		code = http.StatusNotFound // it has nothing of the version yet
		require.Error(t, hear())
		assert.Zero(t, n.peer.deaf)
		code = http.StatusBadGateway
		for range deafAfter {
			require.Error(t, hear())
		}
		p.swarm.meet(upstream, sixteen(1), swarm.Listed)
		assert.NotContains(t, p.swarm.named[upstream], n.peer)
		code = http.StatusOK
		require.NoError(t, hear())
		assert.Zero(t, n.peer.deaf)
	})
}

func TestAShardIsNotKeptWaitingForAPeerThatDoesNotAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		code int
		left bool // alone, as another one at its host did not answer
		want bool
	}{
		"it lacks the version": {http.StatusNotFound, false, false},
		"it lists none yet":    {http.StatusOK, false, false},
		"it fails":             {http.StatusInternalServerError, false, true},
		"its host has failed":  {http.StatusNotFound, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, n, _ := hears(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(c.code) })
				if c.left {
					p.swarm.tried(n.peer, time.Now(), errors.New("refused"))
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					p.hear(ctx, n.number, n.peer.server, n.peer)
				}()
				synctest.Wait()
				p.has(swarm.Upstream, swarm.Change{State: swarm.Sent, From: 1, To: shards})
				pick, _, _ := p.choose()
				assert.Equal(t, c.want, pick.Shard > 0, "it comes from upstream now")
				cancel()
				<-ended
			})
		})
	}
}

func TestANodeThatLacksAVersionIsAskedAgainSoonAndThenLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []time.Time
		p, n, _ := hears(t, func(w http.ResponseWriter, _ *http.Request) {
			asked = append(asked, time.Now())
			w.WriteHeader(http.StatusNotFound)
		})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		p.hear(ctx, n.number, n.peer.server, n.peer)
		require.Greater(t, len(asked), patientFor+4)
		for i, want := range []time.Duration{50, 100, 200, 400, 800, 1000, 1000} {
			want *= time.Millisecond
			assert.InDelta(t, want, asked[i+1].Sub(asked[i]), float64(want)/4, "wait %d", i)
		}
		for i, want := range []time.Duration{1, 2, 4, 8} {
			want *= time.Second
			assert.InDelta(t, want, asked[patientFor+i+1].Sub(asked[patientFor+i]), float64(want)/4, "wait %d", i)
		}
	})
}

func TestTheListOfADeltaIsInItsDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, n, hear := hears(t, func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, "/v1/from_v7/have", r.URL.Path)
			_, _ = w.Write([]byte("+1-2\n"))
		})
		p.opts.Base = 7
		require.NoError(t, hear())
		n.sound = true
		p.up.later = time.Now().Add(time.Hour)
		_, from, _ := p.choose()
		assert.Equal(t, n, from)
	})
}

func TestTheListOfAPeerIsReadLineByLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, n, hear := hears(t, func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, "/v1/have", r.URL.Path)
			states := make([]swarm.State, shards)
			before := make([]swarm.State, shards)
			for _, number := range []int{2, 5} {
				states[number-1] = swarm.Held
			}
			_, _ = w.Write(swarm.AppendLine(nil, before, states))
			_, _ = w.Write([]byte("\n"))
		})
		p.up.later = time.Now().Add(time.Hour)
		require.NoError(t, hear())
		n.sound = true
		got := make(map[int]bool)
		for range 2 {
			pick, from, _ := p.choose()
			assert.Equal(t, n, from)
			got[pick.Shard] = true
		}
		assert.Equal(t, map[int]bool{2: true, 5: true}, got)
		pick, _, _ := p.choose()
		assert.Zero(t, pick.Shard)
	})
}

func TestAPeerWithManyLinesIsReadSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, hear := hears(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("\n\n\n"))
		})
		start := time.Now()
		require.NoError(t, hear())
		assert.Equal(t, 2*wire.HavePause, time.Since(start))
	})
}

func TestAListThatCannotBeReadIsAnError(t *testing.T) {
	for text, want := range map[string]error{
		"h1-1000\n":                        swarm.ErrHave,
		"nonsense\n":                       swarm.ErrHave,
		strings.Repeat("1", 10_000) + "\n": bufio.ErrTooLong,
	} {
		synctest.Test(t, func(t *testing.T) {
			_, _, hear := hears(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })
			require.ErrorIs(t, hear(), want)
		})
	}
}

func TestUpstreamsWithoutASlotAreAskedMoreAndMoreSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := swarmOf(t, Options{}, at("a:80"))
		p := planOf(w, 1)
		defer p.Close()
		for _, want := range []time.Duration{65, 130, 260, 520, 520} {
			want *= time.Millisecond
			p.putOffUpstreams()
			assert.InDelta(t, want, time.Until(p.up.later), float64(want)/4)
		}
	})
}

func TestUpstreamsThatFailAreGivenUpOnlyWhileNothingComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := swarmOf(t, Options{}, at("a:80"))
		p := planOf(w, 1)
		defer p.Close()
		want, _ := p.opts.Want.(*anything)
		broken := errors.New("no route")
		fail := func() error { return p.failed(t.Context(), want.Job(nil), []error{broken}) }
		for range 20 {
			require.ErrorAs(t, fail(), new(dropped), "as long as anything comes from any node it is the first attempt")
			assert.InDelta(t, waits.FastWait, time.Until(p.up.later), float64(waits.FastWait)/4)
			require.ErrorAs(t, fail(), new(dropped), "it is the same one")
			time.Sleep(time.Until(p.up.later) + time.Nanosecond)
			w.opts.Roster.Flow.Came()
		}
		assert.Equal(t, 20, want.again)
		for range p.opts.Attempts - 1 {
			require.ErrorAs(t, fail(), new(dropped))
			time.Sleep(time.Until(p.up.later) + time.Nanosecond)
		}
		err := fail()
		require.ErrorIs(t, err, broken)
		assert.NotErrorAs(t, err, new(dropped))
	})
}

func TestThePullFromAPeerThatHoldsAllUp(t *testing.T) {
	w, upstreams := swarmOf(t, Options{}, at("a:80"))
	peers := []*remote.Server{remote.NewServer(at("b:80")), remote.NewServer(at("c:80"))}
	pull := func(s *remote.Server, speed float64) transfer.Pull {
		return transfer.Pull{Server: s, Ticks: rank.Recent, Speed: speed}
	}
	for name, tc := range map[string]struct {
		change func(p *Plan, pulls []transfer.Pull)
		ok     bool
	}{
		"the slowest one":          {func(*Plan, []transfer.Pull) {}, true},
		"not of an upstream":       {func(_ *Plan, pulls []transfer.Pull) { pulls[1].Server = upstreams[0] }, false},
		"not one that is young":    {func(_ *Plan, pulls []transfer.Pull) { pulls[1].Ticks-- }, false},
		"not one that is given up": {func(_ *Plan, pulls []transfer.Pull) { pulls[1].Given = true }, false},
		"not while upstream fails": {func(p *Plan, _ []transfer.Pull) { p.up.attempts = 1 }, false},
		"not while upstream waits": {func(p *Plan, _ []transfer.Pull) {
			p.up.later = time.Now().Add(time.Hour)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := planOf(w, 1)
			defer p.Close()
			pulls := []transfer.Pull{pull(peers[0], 10), pull(peers[1], 5), pull(upstreams[0], 1)}
			_, ok := p.hopeless(pulls)
			require.False(t, ok, "it is not known how fast upstream is")
			w.opts.Roster.Delivered(upstreams[0], 1<<20, time.Second)
			tc.change(p, pulls)
			slowest, ok := p.hopeless(pulls)
			if tc.ok {
				require.True(t, ok)
				assert.Equal(t, peers[1], slowest.Server)
			} else {
				assert.NotEqual(t, peers[1], slowest.Server)
			}
			w, upstreams = swarmOf(t, Options{}, at("a:80"))
		})
	}
}

func TestThePullFromAPeerThatHoldsUpTheEnd(t *testing.T) {
	w, upstreams := swarmOf(t, Options{}, at("a:80"))
	peers := []*remote.Server{remote.NewServer(at("b:80")), remote.NewServer(at("c:80"))}
	// At 100 bytes per second 10 s are left; others take 0.1 s for the same.
	slow := transfer.Pull{
		Server: peers[0], Ticks: transfer.KnownAfter, Speed: 100, Left: 10, Others: []float64{10_000},
	}
	for name, tc := range map[string]struct {
		change func(o *transfer.Pull)
		begun  bool
		ok     bool
	}{
		"the one that takes longest":       {func(*transfer.Pull) {}, true, true},
		"not before all have begun":        {func(*transfer.Pull) {}, false, false},
		"not of an upstream":               {func(o *transfer.Pull) { o.Server = upstreams[0] }, true, false},
		"not one that is given up":         {func(o *transfer.Pull) { o.Given = true }, true, false},
		"not one that is young":            {func(o *transfer.Pull) { o.Ticks-- }, true, false},
		"not where no other is known":      {func(o *transfer.Pull) { o.Others = nil }, true, false},
		"not if others are half as fast":   {func(o *transfer.Pull) { o.Others = []float64{50} }, true, false},
		"not for twice the speed":          {func(o *transfer.Pull) { o.Others = []float64{200} }, true, false},
		"for more than twice the speed":    {func(o *transfer.Pull) { o.Others = []float64{220} }, true, true},
		"not if it takes half a second":    {func(o *transfer.Pull) { o.Left = 0.5 }, true, false},
		"if it takes more than the others": {func(o *transfer.Pull) { o.Left = 0.52 }, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := planOf(w, 1)
			defer p.Close()
			p.opts.Workers = shards
			if tc.begun {
				require.Equal(t, shards, taken(p))
			}
			o := slow
			tc.change(&o)
			shorter := slow
			shorter.Server, shorter.Left = peers[1], 0.51
			got, ok := p.lagging([]transfer.Pull{o, shorter})
			assert.Equal(t, tc.ok, ok && got.Server == o.Server && got.Left == o.Left)
		})
	}
}
