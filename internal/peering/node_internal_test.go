package peering

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/transfer"
	"github.com/shardcast/shardcast/internal/verify"
	"github.com/shardcast/shardcast/internal/wire"
)

// place is where a shard goes, in memory.
type place struct{ data []byte }

func (p *place) ReadAt(buf []byte, offset int64) (int, error) {
	return bytes.NewReader(p.data).ReadAt(buf, offset)
}

func (p *place) WriteAt(data []byte, offset int64) (int, error) {
	return copy(p.data[offset:], data), nil
}

func (p *place) Written() ([]disk.Range, error) { return nil, nil }
func (p *place) Commit() error                  { return nil }
func (p *place) Close() error                   { return nil }

// memory has a place for each shard.
type memory struct{}

func (memory) Open(s shard.Shard) (transfer.Place, error) { return &place{make([]byte, s.Size)}, nil }

// audience are readers that note the calls.
type audience struct {
	readers

	mu     sync.Mutex // guards direct
	direct []bool
}

func (a *audience) From(_ int, direct bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.direct = append(a.direct, direct)
}

const size = 100_000 // bytes of a shard

// swapping is a plan with a transfer, one upstream, and a neighbour that has all shards.
type swapping struct {
	*Plan

	data    []byte // of every shard
	node    *neighbour
	want    *anything
	readers *audience
}

// swap returns a plan of which h answers all requests.
func swap(t *testing.T, h func(s *swapping, w http.ResponseWriter, r *http.Request)) *swapping {
	t.Helper()
	s := &swapping{data: bytes.Repeat([]byte("0123456789"), size/10), readers: new(audience)}
	client := clientOf(t, func(w http.ResponseWriter, r *http.Request) { h(s, w, r) })
	w, _ := swarmOf(t, Options{Remote: client}, at("upstream:80"))
	m := shard.Manifest{Size: shards * size, ShardSize: size}
	for range shards {
		m.Shards = append(m.Shards, sha256.Sum256(s.data))
	}
	s.Plan = planOf(w, 1)
	t.Cleanup(s.Close)
	s.want, _ = s.opts.Want.(*anything)
	s.opts.Audience, s.opts.Tier, s.opts.Timeout = s.readers, 3, time.Minute
	s.opts.Verifier = verify.New(verify.Options{Manifest: m, Listed: m.Digest})
	s.opts.Transfer = transfer.New(transfer.Options{
		Version: 1, Manifest: m, Sink: memory{}, Audience: s.readers, Verifier: s.opts.Verifier, Workers: 1,
		Roster: w.opts.Roster, Tally: s.opts.Tally, Logger: slog.New(slog.DiscardHandler), Blame: s.want.Refuse,
		Get: func(ctx context.Context, from *remote.Server, number int, r remote.Request) (*remote.Body, error) {
			r.Path = []string{fmt.Sprint(number)}
			return client.Get(ctx, from, r)
		},
	})
	s.node = met(s.Plan, 1)[0]
	s.node.sound = true
	s.has(s.node.number, swarm.Change{State: swarm.Held, From: 1, To: shards})
	return s
}

// begin opens the shard that is picked of the neighbour, or of upstream.
func (s *swapping) begin(t *testing.T, upstream bool) (transfer.Job, swarm.Pick, *neighbour) {
	t.Helper()
	if upstream {
		s.node.later = time.Now().Add(time.Hour)
	} else {
		s.up.later = time.Now().Add(time.Hour)
	}
	pick, from, _ := s.choose()
	require.NotZero(t, pick.Shard)
	require.Equal(t, upstream, from == nil)
	j, err := s.job(t.Context(), pick, from)
	require.NoError(t, err)
	return j, pick, from
}

// bring brings that shard, and reports whether it is to be picked again.
func (s *swapping) bring(t *testing.T, upstream bool) (again bool, err error) {
	t.Helper()
	j, _, _ := s.begin(t, upstream)
	err = j.Bring(t.Context(), j.Spans[0], make([]byte, 10_000))
	again = errors.As(err, new(dropped))
	ended := j.Ended(t.Context(), transfer.Result{Whole: err == nil, Err: err})
	if again {
		require.NoError(t, ended)
	} else {
		require.ErrorIs(t, ended, err)
	}
	return again, err
}

// left returns how long the neighbour is left alone.
func (s *swapping) left() time.Duration { return time.Until(s.node.later) }

func TestAPeerThatAnswers(t *testing.T) {
	failed := peerPause
	breaks := func(s *swapping, w http.ResponseWriter) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = w.Write(s.data[:10])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	for name, tc := range map[string]struct {
		h       func(s *swapping, w http.ResponseWriter, r *http.Request)
		left    time.Duration // until it is asked again, about
		sound   bool
		busy    int
		refused bool
		lacks   bool // it is not asked for the shard again
	}{
		"right": {h: func(s *swapping, w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(s.data) }, sound: true},
		"busy": {h: func(_ *swapping, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, left: 65 * time.Millisecond, sound: true, busy: 1},
		"busy for a while": {h: func(_ *swapping, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, left: 7 * time.Second, sound: true, busy: 1},
		"busy, but late": {h: func(_ *swapping, w http.ResponseWriter, _ *http.Request) {
			time.Sleep(wire.SlotAnswer)
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, left: failed},
		"missing": {h: func(_ *swapping, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
		}, left: 65 * time.Millisecond, lacks: true},
		"an error": {h: func(_ *swapping, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
		}, left: failed},
		"an end": {h: func(s *swapping, w http.ResponseWriter, _ *http.Request) { breaks(s, w) }, left: failed},
		"an end of a relay": {h: func(s *swapping, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(wire.TierHeader, "1")
			breaks(s, w)
		}, left: failed / lessForRelays},
		"silence": {h: func(_ *swapping, _ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		}, left: failed},
		"another size": {h: func(s *swapping, w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(s.data[1:])
		}, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := swap(t, func(s *swapping, w http.ResponseWriter, r *http.Request) {
					assert.Equal(t, swarm.AsPeer, r.Header.Get(wire.SwarmHeader))
					assert.Equal(t, "wait=4", r.Header.Get("Prefer"))
					assert.Empty(t, r.Header.Values(wire.TierHeader), "it is as far from the origin")
					tc.h(s, w, r)
				})
				start := time.Now()
				again, _ := s.bring(t, false)
				assert.Equal(t, name != "right", again)
				assert.InDelta(t, tc.left, max(0, s.left()), float64(tc.left)*0.6)
				assert.LessOrEqual(t, time.Since(start), wire.PeerSilence+wire.PeerFirst)
				assert.Equal(t, tc.sound, s.node.sound)
				assert.Equal(t, tc.busy, s.node.busy)
				assert.Equal(t, tc.refused, s.want.Refused(s.node.peer.server) != nil)
				assert.Equal(t, tc.refused, s.nodes[s.node.number] == nil, "a refused one is no neighbour")
				assert.Zero(t, s.picker.Under(s.node.number))
				assert.Zero(t, s.under)
				if !again || tc.refused {
					return
				}
				// The shard is asked for next, of this peer if it has it.
				time.Sleep(max(0, s.left()))
				pick, from, _ := s.choose()
				require.Equal(t, s.node, from)
				asked := make(map[int]bool)
				for ; from != nil; pick, from, _ = s.choose() {
					asked[pick.Shard] = true
					s.node.sound = true
					if s.under >= workers {
						s.under = 0
					}
				}
				assert.Len(t, asked, shards-map[bool]int{true: 1}[tc.lacks])
			})
		})
	}
}

// Such as for the delta of the version.
func TestAPeerThatWasRefusedMeanwhileIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := swap(t, func(*swapping, http.ResponseWriter, *http.Request) { assert.Fail(t, "it is asked") })
		s.want.Refuse(t.Context(), s.node.peer.server, shard.ErrDigest)
		again, err := s.bring(t, false)
		assert.True(t, again)
		require.ErrorIs(t, err, shard.ErrDigest)
		assert.Nil(t, s.nodes[s.node.number])
	})
}

func TestAPeerThatIsBusyAgainAndAgainIsNotSound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := swap(t, func(_ *swapping, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		for i := range mostBusy {
			assert.True(t, s.node.sound, "%d times", i)
			again, _ := s.bring(t, false)
			require.True(t, again)
			time.Sleep(s.left())
		}
		assert.False(t, s.node.sound)
	})
}

func TestAShardThatPeersDoNotBringComesFromUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := swap(t, func(_ *swapping, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		s.has(s.node.number, swarm.Change{State: swarm.Missing, From: 1, To: shards})
		s.has(s.node.number, swarm.Change{State: swarm.Held, From: 3, To: 3})
		next := func() (swarm.Pick, *neighbour) {
			s.up.later = time.Time{}
			pick, from, _ := s.choose()
			s.picker.Drop(pick)
			s.under--
			return pick, from
		}
		start := time.Now()
		for over := false; !over; {
			pick, _ := next()
			assert.Equal(t, swarm.AsFresh, pick.As, "no other node has been sent it")
			over = time.Since(start) >= peersPatience
			again, _ := s.bring(t, false)
			require.True(t, again)
			time.Sleep(s.left())
		}
		pick, from := next()
		assert.Nil(t, from)
		assert.Equal(t, 3, pick.Shard, "it is needed")
		assert.Equal(t, swarm.AsUpstream, pick.As)
	})
}

func TestRequestsToUpstreamStateTheTier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		s := swap(t, func(s *swapping, w http.ResponseWriter, r *http.Request) {
			requests++
			assert.Equal(t, "3", r.Header.Get(wire.TierHeader))
			assert.Equal(t, swarm.AsSpare, r.Header.Get(wire.SwarmHeader))
			assert.Equal(t, "wait=10", r.Header.Get("Prefer"))
			_, _ = w.Write(s.data)
		})
		s.up.attempts = 2
		_, err := s.bring(t, true)
		require.NoError(t, err)
		assert.Equal(t, 1, requests)
		assert.Zero(t, s.up.attempts)
	})
}

func TestAShardThatUpstreamHasSentToOthersIsNotFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := swap(t, func(_ *swapping, w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, swarm.AsFresh, r.Header.Get(wire.SwarmHeader))
			w.WriteHeader(http.StatusConflict)
		})
		s.has(s.node.number, swarm.Change{State: swarm.Missing, From: 1, To: shards})
		fresh := make(map[int]bool)
		for range shards {
			j, pick, _ := s.begin(t, true)
			assert.False(t, fresh[pick.Shard], "asked for again")
			fresh[pick.Shard] = true
			err := j.Bring(t.Context(), j.Spans[0], make([]byte, 10))
			require.ErrorAs(t, err, new(dropped))
			require.NoError(t, j.Ended(t.Context(), transfer.Result{Err: err}))
			assert.True(t, s.up.later.IsZero(), "it may be asked for another one at once")
		}
	})
}

func TestUpstreamWithoutASlotIsLeftAloneForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := swap(t, func(_ *swapping, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		again, _ := s.bring(t, true)
		assert.True(t, again)
		assert.InDelta(t, slotPause, time.Until(s.up.later), float64(slotPause)/4)
		assert.Zero(t, s.up.attempts, "that is no failure")
	})
}

func TestReadersLearnThatAShardHasNoServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := swap(t, func(s *swapping, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			_, _ = w.Write(s.data[:1000])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		again, _ := s.bring(t, false)
		require.True(t, again)
		assert.Equal(t, []bool{true, false}, s.readers.direct)
		assert.Len(t, s.parts, 1, "what has come of it is kept")
	})
}

func TestNoShardIsTakenBeforeNeighboursHaveJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := swap(t, func(_ *swapping, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
		got := make(chan transfer.Job, 1)
		go func() {
			j, err := s.Next(t.Context())
			assert.NoError(t, err)
			got <- j
		}()
		synctest.Wait()
		assert.Empty(t, got)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.Listen(ctx)
		}()
		assert.NotNil(t, (<-got).Shard)
		cancel()
		<-ended
	})
}

func TestAFetchGoesOnWithoutUpstreamsWhileNeighboursHaveShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := swap(t, func(*swapping, http.ResponseWriter, *http.Request) {})
		none := s.want.Job(nil)
		none.May = func(*remote.Server) bool { return false }
		gone := errors.New("no server offers it")
		none.Failed = func([]error) error { return gone }
		require.ErrorAs(t, s.none(t.Context(), none), new(dropped))
		s.has(s.node.number, swarm.Change{State: swarm.Missing, From: 1, To: shards})
		err := s.none(t.Context(), none)
		require.ErrorIs(t, err, gone)
		assert.NotErrorAs(t, err, new(dropped))
	})
}

// once is a plan of one job.
type once struct{ job transfer.Job }

func (o once) Next(context.Context) (transfer.Job, error) { return o.job, nil }
func (once) Tick()                                        {}
func (once) Lost([]*transfer.Arrival) error               { return nil }

func TestAWrongShardStaysOpenForTheServersToBlame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := swap(t, func(s *swapping, w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(append([]byte("x"), s.data[1:]...))
		})
		s.opts.Verifier.Each()
		j, pick, _ := s.begin(t, false)
		var wrong []*transfer.Arrival
		enough := errors.New("had enough")
		j.Ended = func(_ context.Context, r transfer.Result) error {
			wrong = r.Wrong
			return enough
		}
		_, err := s.opts.Transfer.Run(t.Context(), once{j})
		require.ErrorIs(t, err, enough)
		require.Equal(t, []*transfer.Arrival{j.Shard}, wrong)
		for number := range mostParts {
			s.parts[-1-number] = nil
		}
		require.NoError(t, s.putBack(j.Shard))
		assert.Equal(t, j.Shard, s.parts[pick.Shard], "although as many are open as may be")
	})
}

func TestOnlyTheFirstInterruptionsOfARelayAreForgiven(t *testing.T) {
	p, n := new(Plan), new(neighbour)
	for range mostInterrupted {
		assert.True(t, p.isLenient(n))
	}
	assert.False(t, p.isLenient(n))
}
