package roster_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
)

func TestAllThatAreSentAwayAtOnceWait(t *testing.T) {
	for range 300 {
		synctest.Test(t, func(t *testing.T) {
			const wait = 5 * time.Second
			r := rosterOf(t, roster.Options{}, "http://a")
			start := time.Now()
			var mu sync.Mutex
			early := 0
			j := jobOf(func(*remote.Server) error {
				asked := time.Since(start)
				time.Sleep(time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				if asked == 0 {
					return away(wait)
				}
				if asked < wait {
					early++
				}
				return nil
			})
			var all sync.WaitGroup
			for range 10 {
				all.Go(func() { assert.NoError(t, r.Try(t.Context(), j)) })
			}
			all.Wait()
			assert.Zero(t, early, "asked before the time")
		})
		if t.Failed() {
			return
		}
	}
}

// A server that is busy with others is asked when one of those ends, and that is no
// attempt.
func TestTryWaitsForABusyServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rosterOf(t, roster.Options{Attempts: 1}, "http://a")
		end := make(chan struct{})
		var first sync.WaitGroup
		first.Go(func() {
			assert.NoError(t, r.Try(t.Context(), jobOf(func(s *remote.Server) error {
				defer r.Sends(s)()
				<-end
				return nil
			})))
		})
		synctest.Wait()
		start := time.Now()
		time.AfterFunc(3*time.Second, func() { close(end) })
		asked := 0
		require.NoError(t, r.Try(t.Context(), jobOf(func(*remote.Server) error {
			if asked++; asked == 1 {
				return away(time.Minute)
			}
			return nil
		})))
		assert.Equal(t, 3*time.Second, time.Since(start))
		assert.Equal(t, 2, asked)
		first.Wait()
	})
}

func TestTryGivesUpABusyServerAfterTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rosterOf(t, roster.Options{}, "http://a")
		start := time.Now()
		times := 0
		err := r.Try(t.Context(), jobOf(func(*remote.Server) error {
			if times++; time.Since(start) > time.Hour { // for this to end
				return nil
			}
			return away(time.Minute)
		}))
		require.ErrorIs(t, err, errFailed)
		require.ErrorContains(t, err, "503", "the reason is the server's")
		assert.GreaterOrEqual(t, time.Since(start), 10*time.Minute)
		assert.LessOrEqual(t, time.Since(start), 10*time.Minute+90*time.Second)
		assert.LessOrEqual(t, times, 11)
	})
}

func TestTryIsPatientWithBusyServersWhileBytesOfShardsCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rosterOf(t, roster.Options{}, "http://a")
		start := time.Now()
		require.NoError(t, r.Try(t.Context(), jobOf(func(*remote.Server) error {
			if time.Since(start) > time.Hour {
				return nil
			}
			r.Flow.Came() // from a peer, say
			return away(5 * time.Minute)
		})))
	})
}

func TestTryEndsWithItsContextWhileItWaits(t *testing.T) {
	for name, answer := range map[string]error{
		"for a busy server": away(time.Minute),
		"between attempts":  errors.New("broke off"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rosterOf(t, roster.Options{Waits: roster.Waits{FastWait: time.Minute}}, "http://a")
				enough := errors.New("had enough")
				ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, enough)
				defer cancel()
				start, asked := time.Now(), 0
				require.ErrorIs(t, r.Try(ctx, jobOf(func(*remote.Server) error {
					if asked++; asked > 100 { // for this to end
						return nil
					}
					return answer
				})), enough)
				assert.Equal(t, 3*time.Second, time.Since(start))
			})
		})
	}
}

func TestAnAttemptAsksEachServerOnceAndThenWaits(t *testing.T) {
	for name, tc := range map[string]struct {
		opts roster.Options
		want []time.Duration // after each attempt
	}{
		"fast at first and then slow": {
			roster.Options{Attempts: 5},
			[]time.Duration{2 * time.Second, 2 * time.Second, 2 * time.Second, 15 * time.Second},
		},
		"as the options say": {
			roster.Options{
				Attempts: 4, Waits: roster.Waits{FastAttempts: 1, FastWait: 7 * time.Second, SlowWait: 9 * time.Minute},
			},
			[]time.Duration{7 * time.Second, 9 * time.Minute, 9 * time.Minute},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				different := make(map[time.Duration]bool)
				for range 20 {
					r := rosterOf(t, tc.opts, "http://a", "http://b")
					var times []time.Time
					again := 0
					j := jobOf(func(s *remote.Server) error {
						if times = append(times, time.Now()); len(times) > 100 { // for this to end
							return nil
						}
						return fmt.Errorf("%s broke off", s.Name)
					})
					j.Again = func(context.Context) { again++ }
					err := r.Try(t.Context(), j)
					require.ErrorContains(t, err, "http://a broke off")
					require.ErrorContains(t, err, "http://b broke off")
					require.Len(t, times, 2*(len(tc.want)+1))
					assert.Equal(t, len(tc.want), again)
					for i, want := range tc.want {
						assert.Equal(t, times[2*i], times[2*i+1], "both servers at once")
						waited := times[2*i+2].Sub(times[2*i+1])
						assert.InDelta(t, want, waited, float64(want)/4)
						different[waited] = true
					}
				}
				assert.Greater(t, len(different), len(tc.want), "nodes that failed together come back together")
			})
		})
	}
}

func TestATryThatGetsSomewhereBeginsTheAttemptsAnew(t *testing.T) {
	failed := errors.New("broke off")
	for _, what := range []roster.What{roster.Moved, roster.Spared} {
		synctest.Test(t, func(t *testing.T) {
			r := rosterOf(t, roster.Options{Attempts: 3}, "http://a")
			moved := &roster.Setback{Err: failed, What: what}
			outcomes := []error{failed, failed, moved, failed, failed, moved, moved, failed, failed, failed, nil}
			tried := 0
			err := r.Try(t.Context(), jobOf(func(*remote.Server) error {
				tried++
				return outcomes[tried-1]
			}))
			require.ErrorIs(t, err, failed)
			assert.Equal(t, len(outcomes)-1, tried, "three that get nowhere, one after the other, are the end")
		})
	}
}

func TestSuccessOfAServerAfterASetback(t *testing.T) {
	failed := errors.New("broke off")
	for name, tc := range map[string]struct {
		err     error
		failed  bool // its success is lower afterwards
		refused bool
	}{
		"an error":                      {failed, true, false},
		"one that got somewhere":        {&roster.Setback{Err: failed, What: roster.Moved}, true, false},
		"one of which it is innocent":   {&roster.Setback{Err: failed, What: roster.Spared}, false, false},
		"busy":                          {away(time.Second), false, false},
		"never again":                   {&roster.Setback{Err: failed, What: roster.Never}, false, true},
		"a wrong answer":                {roster.Wrong(failed), false, true},
		"nothing there, as it listed":   {fs.ErrNotExist, true, false},
		"nothing there, nor any listed": {fmt.Errorf("gone: %w", fs.ErrNotExist), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := rosterOf(t, roster.Options{}, "http://a", "http://b")
			a := r.Servers()[0]
			refused, gone, asked := false, false, 0
			j := jobOf(func(s *remote.Server) error {
				if asked++; s == a && asked < 100 { // for this to end
					return tc.err
				}
				return nil
			})
			j.May = func(s *remote.Server) bool { return s != a || !refused && !gone }
			j.Refuse = func(_ context.Context, s *remote.Server, err error) {
				assert.Equal(t, a, s)
				assert.ErrorIs(t, err, tc.err)
				refused = true
			}
			j.Gone = func(_ context.Context, s *remote.Server) bool {
				assert.Equal(t, a, s)
				gone = name == "nothing there, nor any listed"
				return gone
			}
			require.NoError(t, r.Try(t.Context(), j), "the other server does it")
			assert.Equal(t, tc.refused, refused)
			assert.Equal(t, 2, asked)
			standing := r.Standings()[0]
			if tc.failed {
				assert.Less(t, standing.Success, 0.75)
				assert.ErrorIs(t, standing.Err, tc.err)
			} else {
				assert.InDelta(t, 1, standing.Success, 0)
			}
		})
	}
}

func TestAnErrorOfThisMachineEndsTheJob(t *testing.T) {
	r := rosterOf(t, roster.Options{}, "http://a", "http://b")
	full := errors.New("no space left on device")
	asked := 0
	err := r.Try(t.Context(), jobOf(func(*remote.Server) error {
		asked++
		return &roster.Setback{Err: full, What: roster.Stop}
	}))
	require.ErrorIs(t, err, full)
	assert.Equal(t, 1, asked)
	assert.InDelta(t, 1, r.Standings()[0].Success, 0, "no server is to blame")
}

func TestASetbackNamesTheServerThatGoesOn(t *testing.T) {
	r := rosterOf(t, roster.Options{}, "http://a", "http://b", "http://c")
	servers := r.Servers()
	var asked []string
	j := jobOf(func(s *remote.Server) error {
		if asked = append(asked, s.Name); len(asked) == 1 {
			return &roster.Setback{Err: errors.New("slow"), What: roster.Spared, Next: servers[2]}
		}
		return nil
	})
	j.First = servers[1]
	require.NoError(t, r.Try(t.Context(), j))
	assert.Equal(t, []string{"http://b", "http://c"}, asked)
}

func TestWrongIsAnIntegrityErrorWithoutNamingIt(t *testing.T) {
	err := roster.Wrong(errors.New("12 bytes instead of 13"))
	require.ErrorIs(t, err, shard.ErrIntegrity)
	require.True(t, roster.Is(err, roster.Never))
	require.False(t, roster.Is(err, roster.Stop))
	assert.EqualError(t, err, "12 bytes instead of 13")
}

func TestPickPrefersIdleServers(t *testing.T) {
	r := rosterOf(t, roster.Options{}, "http://a", "http://b")
	servers := r.Servers()
	anyServer := func(*remote.Server) bool { return true }
	require.NoError(t, r.Try(t.Context(), jobOf(func(s *remote.Server) error {
		assert.Equal(t, servers[0], s)
		assert.Equal(t, servers[1], r.Pick(anyServer), "the first is at work")
		assert.Equal(t, servers[0], r.Pick(func(o *remote.Server) bool { return o == s }))
		state, transfers, _ := r.State(s)
		assert.Equal(t, roster.Sending, state)
		assert.Equal(t, 1, transfers)
		return nil
	})))
	assert.Equal(t, servers[0], r.Pick(anyServer))
	assert.Nil(t, r.Pick(func(*remote.Server) bool { return false }))
	for range 3 {
		r.Blame(servers[0], errors.New("wrong bytes"))
	}
	assert.Equal(t, servers[1:], r.Idle(), "a bad one may be left idle")
}

func TestStateOfAServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rosterOf(t, roster.Options{Attempts: 1}, "http://a")
		s := r.Servers()[0]
		state := func() string {
			now, _, _ := r.State(s)
			return now
		}
		assert.Equal(t, roster.Idle, state())
		r.Answered(s, errors.New("no route"))
		now, _, err := r.State(s)
		assert.Equal(t, roster.Failing, now)
		require.ErrorContains(t, err, "no route")
		r.Answered(s, nil)
		now, _, err = r.State(s)
		assert.Equal(t, roster.Idle, now)
		require.NoError(t, err)
		require.ErrorContains(t, r.Standings()[0].Err, "no route", "the last failure stays known")
		asked := 0
		require.NoError(t, r.Try(t.Context(), jobOf(func(*remote.Server) error {
			if asked++; asked > 1 {
				return nil
			}
			time.AfterFunc(time.Second, func() { assert.Equal(t, roster.Busy, state()) })
			return away(5 * time.Second)
		})))
		assert.Equal(t, roster.Idle, state())
		stranger := remote.NewServer(s.URL)
		now, _, _ = r.State(stranger)
		assert.Equal(t, roster.Idle, now)
		assert.Equal(t, -1, r.Number(stranger), "servers are told apart by their pointers")
		assert.False(t, r.Has(stranger))
	})
}
