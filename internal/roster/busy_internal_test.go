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

// one returns a roster of one server.
func one() (*Roster, *remote.Server) {
	r := New(Options{
		Upstreams: []*url.URL{{Scheme: "http", Host: "upstream.invalid"}},
		Attempts:  1, FastAttempts: 1, FastWait: time.Second, SlowWait: time.Second,
		Draw: func() float64 { return 0 }, Logger: slog.New(slog.DiscardHandler),
	})
	return r, r.Servers()[0]
}

// left returns the time until s may be asked for more.
func left(r *Roster, s *remote.Server) (left time.Duration) {
	r.with(s, func(m *member) { left = time.Until(m.later) })
	return left
}

func busyFor(wait time.Duration) *remote.Busy {
	return &remote.Busy{Err: errors.New("it answers 503"), Wait: wait}
}

func TestClaimKeepsToTheLoadThatABusyServerBears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := one()
		claim := func() bool {
			_, ok := r.claim(s)
			return ok
		}
		for range 100 {
			require.True(t, claim(), "a server that was never busy has no bound")
		}
		for range 98 {
			r.release(s, nil)
		}
		r.Sends(s)
		ended := r.Sends(s)
		r.putOff(s, busyFor(10*time.Second), 0)
		wait := left(r, s)
		assert.GreaterOrEqual(t, wait, 10*time.Second)
		assert.LessOrEqual(t, wait, 15*time.Second)
		require.False(t, r.Free(s))
		require.False(t, claim(), "a third at the same time")
		ended()
		r.release(s, nil)
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
		_, transfers, _ := r.State(s)
		assert.Equal(t, 4, transfers)

		r.putOff(s, busyFor(0), 0)
		assert.GreaterOrEqual(t, left(r, s), 100*time.Millisecond, "0 is no wait")
		assert.LessOrEqual(t, left(r, s), 150*time.Millisecond)
	})
}

func TestARefusalLeavesAsManyShardsAsTheServerSentWhenTheRequestBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := one()
		ended := []func(){r.Sends(s), r.Sends(s)}
		had, ok := r.claim(s)
		require.True(t, ok)
		assert.Equal(t, 2, had)
		for _, end := range ended {
			end() // before the refusal comes
		}
		r.putOff(s, busyFor(time.Minute), had)
		r.release(s, busyFor(time.Minute))
		for range 2 {
			_, ok = r.claim(s)
			require.True(t, ok)
		}
		_, ok = r.claim(s)
		assert.False(t, ok)
	})
}

func TestNodesThatWereSentAwayTogetherComeBackOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		different := make(map[time.Duration]bool)
		for range 20 {
			r, s := one()
			different[r.putOff(s, busyFor(time.Second), 0)] = true
		}
		assert.Greater(t, len(different), 1)
	})
}

func TestWaitIsUntilTheFirstBusyServerMayBeAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := one()
		all := Job{May: func(*remote.Server) bool { return true }}
		wait, _ := r.Wait(all)
		assert.Zero(t, wait)
		said := busyFor(10 * time.Second)
		stated := r.putOff(s, said, 0)
		wait, freed := r.Wait(all)
		assert.Equal(t, stated, wait)
		assert.Equal(t, []error{said}, r.Refusals(all))
		select {
		case <-freed:
			t.Fatal("nothing has ended")
		default:
		}
		r.with(s, func(m *member) { m.transfers++ })
		r.release(s, nil)
		<-freed

		none := Job{May: func(*remote.Server) bool { return false }}
		wait, _ = r.Wait(none)
		assert.Zero(t, wait, "the job asks no server")
		assert.Empty(t, r.Refusals(none))
	})
}

func TestAServerThatBecomesFreeAfterItWasPassedOverIsAsked(t *testing.T) {
	r, s := one()
	r.with(s, func(m *member) { m.later = time.Now().Add(time.Hour) })
	looked := 0
	may := func(*remote.Server) bool {
		if looked++; looked == 2 { // the attempt is over, and no caller waits yet
			r.with(s, func(m *member) { m.later = time.Time{} })
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
