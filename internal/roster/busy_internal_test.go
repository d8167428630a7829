package roster

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/remote"
)

// one returns a roster of one server, and that.
func one() (*Roster, *member) {
	r := New(Options{
		Upstreams: []*url.URL{{Scheme: "http", Host: "upstream.invalid"}},
		Attempts:  1, Waits: Waits{FastAttempts: 1, FastWait: time.Second, SlowWait: time.Second},
		Draw: func() float64 { return 0 }, Logger: slog.New(slog.DiscardHandler),
	})
	return r, r.all()[0]
}

// left returns the time until m may be asked for more.
func left(m *member) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Until(m.later)
}

func busyFor(wait time.Duration) *remote.Busy {
	return &remote.Busy{Err: errors.New("it answers 503"), Wait: wait}
}

func TestClaimKeepsToTheLoadThatABusyServerBears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, m := one()
		claim := func() bool {
			_, ok := m.claim()
			return ok
		}
		for range 100 {
			require.True(t, claim(), "a server that was never busy has no bound")
		}
		for range 98 {
			m.release(nil)
		}
		r.Sends(m.server)
		ended := r.Sends(m.server)
		m.putOff(busyFor(10*time.Second), 0)
		wait := left(m)
		assert.GreaterOrEqual(t, wait, 10*time.Second)
		assert.LessOrEqual(t, wait, 15*time.Second)
		require.False(t, r.Free(m.server))
		require.False(t, claim(), "a third at the same time")
		ended()
		m.release(nil)
		require.True(t, claim(), "again two")
		require.False(t, claim())

		time.Sleep(wait - time.Nanosecond)
		require.False(t, claim(), "before the time that the server stated")
		time.Sleep(time.Nanosecond)
		require.True(t, claim(), "one more")
		require.False(t, claim(), "but not two")
		time.Sleep(probeEvery - time.Nanosecond)
		require.False(t, claim())
		time.Sleep(time.Nanosecond)
		require.True(t, claim(), "and after 2 s one more again")
		require.False(t, claim())
		_, transfers, _ := r.State(m.server)
		assert.Equal(t, 4, transfers)

		m.putOff(busyFor(0), 0)
		assert.GreaterOrEqual(t, left(m), 100*time.Millisecond, "0 is no wait")
		assert.LessOrEqual(t, left(m), 150*time.Millisecond)
	})
}

func TestARefusalLeavesAsManyShardsAsTheServerSentWhenTheRequestBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, m := one()
		ended := []func(){r.Sends(m.server), r.Sends(m.server)}
		had, ok := m.claim()
		require.True(t, ok)
		assert.Equal(t, 2, had)
		for _, end := range ended {
			end() // before the refusal comes
		}
		m.putOff(busyFor(time.Minute), had)
		m.release(busyFor(time.Minute))
		for range 2 {
			_, ok = m.claim()
			require.True(t, ok)
		}
		_, ok = m.claim()
		assert.False(t, ok)
	})
}

// A request that is older than the refusal of another one may be answered all the same.
func TestAShardThatComesAfterARefusalIsNotLessThanTheServerBears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, m := one()
		for range 2 {
			_, ok := m.claim()
			require.True(t, ok)
		}
		m.putOff(busyFor(time.Minute), 0)
		m.release(busyFor(time.Minute))
		ended := r.Sends(m.server)
		require.False(t, r.Free(m.server), "one at a time")
		ended()
		m.release(nil)
		assert.True(t, r.Free(m.server))
	})
}

func TestNodesThatWereSentAwayTogetherComeBackOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		different := make(map[time.Duration]bool)
		for range 20 {
			_, m := one()
			different[m.putOff(busyFor(time.Second), 0)] = true
		}
		assert.Greater(t, len(different), 1)
	})
}

func TestWaitIsUntilTheFirstBusyServerMayBeAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, m := one()
		all := Job{May: func(*remote.Server) bool { return true }}
		assert.Zero(t, r.Busy(all).Wait)
		said := busyFor(10 * time.Second)
		stated := m.putOff(said, 0)
		busy := r.Busy(all)
		assert.Equal(t, stated, busy.Wait)
		assert.Equal(t, []error{said}, busy.Said)
		select {
		case <-busy.Freed:
			t.Fatal("nothing has ended")
		default:
		}
		_, _ = m.claim()
		m.release(nil)
		<-busy.Freed

		none := Job{May: func(*remote.Server) bool { return false }}
		assert.Zero(t, r.Busy(none).Wait, "the job asks no server")
		assert.Empty(t, r.Busy(none).Said)
	})
}

func TestAServerThatBecomesFreeAfterItWasPassedOverIsAsked(t *testing.T) {
	r, m := one()
	m.later = time.Now().Add(time.Hour)
	looked := 0
	may := func(*remote.Server) bool {
		if looked++; looked == 2 { // the attempt is over, and no caller waits yet
			m.later = time.Time{}
		}
		return true
	}
	asked := 0
	err := r.Try(t.Context(), Job{
		May: may, Logger: slog.New(slog.DiscardHandler), Again: func(context.Context) {},
		Do: func(*remote.Server) error {
			asked++
			return nil
		},
		Failed: func(errs []error) error { return errors.Join(append(errs, errors.New("given up"))...) },
	})
	require.NoError(t, err)
	assert.Equal(t, 1, asked)
}
