package fetch

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
)

var (
	anEntry   = distfile.Entry{Version: 1}
	sentAway  = func(wait time.Duration) error { return busy{error: errors.New("it answers 503"), wait: wait} }
	noRefusal = new(refusals)
)

// offering returns a pool whose upstream offers anEntry.
func offering(t *testing.T, opts Options) (*Pool, *upstream) {
	t.Helper()
	p := idlePool(t, opts)
	p.upstreams[0].offered = []distfile.Entry{anEntry}
	return p, p.upstreams[0]
}

func TestClaimKeepsToWhatABusyUpstreamBears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, u := offering(t, Options{})
		for range 100 {
			require.True(t, p.claim(u), "one that was never busy has no bounds")
		}
		for range 98 {
			p.release(u, nil)
		}
		p.sends(u, 2)
		p.putOff(u, busy{error: errors.New("503"), wait: 10 * time.Second})
		left := time.Until(u.later)
		assert.GreaterOrEqual(t, left, 10*time.Second)
		assert.LessOrEqual(t, left, 15*time.Second)
		require.False(t, p.free(u))
		require.False(t, p.claim(u), "a third at the same time")
		p.release(u, nil)
		require.True(t, p.claim(u), "again two")
		require.False(t, p.claim(u))

		time.Sleep(left - time.Nanosecond)
		require.False(t, p.claim(u), "before the time that it has said")
		time.Sleep(time.Nanosecond)
		require.True(t, p.claim(u), "one more")
		require.False(t, p.claim(u), "but not two")
		time.Sleep(probeEvery - time.Nanosecond)
		require.False(t, p.claim(u))
		time.Sleep(time.Nanosecond)
		require.True(t, p.claim(u), "and after 2 s one more again")
		require.False(t, p.claim(u))
		assert.Equal(t, 4, u.transfers)

		p.putOff(u, busy{error: errors.New("503"), wait: 0})
		assert.GreaterOrEqual(t, time.Until(u.later), 100*time.Millisecond, "0 is no wait")
		assert.LessOrEqual(t, time.Until(u.later), 150*time.Millisecond)
	})
}

func TestThoseWhoWereSentAwayTogetherComeBackOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		different := make(map[time.Time]bool)
		for range 20 {
			p, u := offering(t, Options{})
			p.putOff(u, busy{error: errors.New("503"), wait: time.Second})
			different[u.later] = true
		}
		assert.Greater(t, len(different), 1)
	})
}

func TestWaitIsUntilTheFirstBusyUpstreamMayBeAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, u := offering(t, Options{})
		q := quest{entry: anEntry, refused: new(refusals)}
		wait, _ := p.wait(q)
		assert.Zero(t, wait)
		p.putOff(u, busy{error: errors.New("503"), wait: 10 * time.Second})
		wait, freed := p.wait(q)
		assert.Equal(t, time.Until(u.later), wait)
		select {
		case <-freed:
			t.Fatal("nothing has ended")
		default:
		}
		u.transfers++
		p.release(u, nil)
		<-freed

		wait, _ = p.wait(quest{entry: distfile.Entry{Version: 2}, refused: noRefusal})
		assert.Zero(t, wait, "it does not offer that")
		q.refused.add(u, errors.New("wrong bytes"))
		wait, _ = p.wait(q)
		assert.Zero(t, wait, "it is not asked again")
	})
}

func TestAllWhoAreSentAwayAtOnceWait(t *testing.T) {
	for range 300 {
		synctest.Test(t, func(t *testing.T) {
			const wait = 5 * time.Second
			p, _ := offering(t, Options{})
			start := time.Now()
			var mu sync.Mutex
			early := 0
			q := quest{entry: anEntry, refused: new(refusals)}
			q.try = func(*upstream) error {
				asked := time.Since(start)
				time.Sleep(time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				if asked == 0 {
					return sentAway(wait)
				}
				if asked < wait {
					early++
				}
				return nil
			}
			var all sync.WaitGroup
			for range 10 {
				all.Go(func() { assert.NoError(t, p.retry(t.Context(), q)) })
			}
			all.Wait()
			assert.Zero(t, early, "asked before the time")
		})
		if t.Failed() {
			return
		}
	}
}

// An upstream that is sent for while it is busy with others is asked when one of
// those ends, and that is no attempt.
func TestRetryWaitsForABusyUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, u := offering(t, Options{Attempts: 1})
		require.True(t, p.claim(u))
		p.sends(u, 1)
		p.putOff(u, busy{error: errors.New("503"), wait: time.Minute})
		ended := make(chan time.Duration)
		start := time.Now()
		go func() {
			assert.NoError(t, p.retry(t.Context(), quest{entry: anEntry, refused: new(refusals), try: func(*upstream) error { return nil }}))
			ended <- time.Since(start)
		}()
		time.Sleep(3 * time.Second)
		p.sends(u, -1)
		p.release(u, nil)
		assert.Equal(t, 3*time.Second, <-ended)
	})
}

func TestRetryDoesNotWaitForABusyUpstreamForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := offering(t, Options{})
		start := time.Now()
		times := 0
		err := p.retry(t.Context(), quest{entry: anEntry, refused: new(refusals), try: func(*upstream) error {
			times++
			return sentAway(time.Minute)
		}})
		require.Error(t, err)
		assert.GreaterOrEqual(t, time.Since(start), busyPatience)
		assert.LessOrEqual(t, time.Since(start), busyPatience+90*time.Second)
		assert.LessOrEqual(t, times, 11)
	})
}

func TestRetryEndsWithItsContextWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := offering(t, Options{})
		enough := errors.New("had enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, enough)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, p.retry(ctx, quest{entry: anEntry, refused: new(refusals), try: func(*upstream) error { return sentAway(time.Minute) }}), enough)
		assert.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestAnUpstreamThatBecomesFreeAfterItWasPassedOverIsAsked(t *testing.T) {
	p, u := offering(t, Options{Attempts: 1})
	u.later = time.Now().Add(time.Hour)
	looked := 0
	may := func(*upstream) bool {
		if looked++; looked == 2 { // the attempt is over, and nobody waits yet
			p.mu.Lock()
			u.later = time.Time{}
			p.mu.Unlock()
		}
		return true
	}
	asked := 0
	err := p.retry(t.Context(), quest{entry: anEntry, refused: noRefusal, may: may, try: func(*upstream) error {
		asked++
		return nil
	}})
	require.NoError(t, err)
	assert.Equal(t, 1, asked)
}
