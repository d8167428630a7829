package slots

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/trip"
	"github.com/shardcast/shardcast/internal/wire"
)

// entered is the outcome of a request for a slot.
type entered struct {
	leave func()
	ok    bool
	after time.Duration
}

// enterAll asks for count slots at the same time, for one host.
func enterAll(s *Slots, count int, spare bool) <-chan entered {
	return enterFrom(s, "10.0.0.1", count, spare)
}

func enterFrom(s *Slots, host string, count int, spare bool) <-chan entered {
	return enterAs(s, Reader{Remote: host + ":1234"}, count, spare)
}

func enterAs(s *Slots, r Reader, count int, spare bool) <-chan entered {
	outcomes, begun := make(chan entered, count), time.Now()
	for range count {
		go func() {
			leave, ok := s.Enter(context.Background(), r, spare)
			outcomes <- entered{leave, ok, time.Since(begun)}
		}()
	}
	synctest.Wait()
	return outcomes
}

func TestOfThoseWithoutASlotTwoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(8, 2)
		var leave []func()
		for range 8 {
			got := <-enterAll(s, 1, false)
			require.True(t, got.ok)
			leave = append(leave, got.leave)
		}
		outcomes := enterAll(s, 3, false)
		for _, after := range []time.Duration{0, wire.SlotWait, wire.SlotWait} {
			got := <-outcomes
			require.False(t, got.ok)
			assert.Equal(t, after, got.after)
		}
		outcomes = enterAll(s, 2, false)
		time.Sleep(wire.SlotWait / 2)
		leave[0]()
		got := <-outcomes
		require.True(t, got.ok)
		assert.Equal(t, wire.SlotWait/2, got.after)
		got = <-outcomes
		require.False(t, got.ok)
	})
}

func TestReadersOverALongWayTakeHalfASlot(t *testing.T) {
	far := Reader{Remote: "10.0.0.9:1234", Trip: trip.Long}
	synctest.Test(t, func(t *testing.T) {
		s := New(8, 2)
		var leave []func()
		for range 16 {
			got := <-enterAs(s, far, 1, false)
			require.True(t, got.ok)
			leave = append(leave, got.leave)
		}
		outcomes := enterAs(s, far, 5, false)
		assert.Zero(t, (<-outcomes).after, "four may wait")
		leave[0]()
		require.True(t, (<-outcomes).ok)
		for range 3 {
			require.False(t, (<-outcomes).ok)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := New(8, 2)
		var leave []func()
		for range 16 {
			leave = append(leave, (<-enterAs(s, far, 1, false)).leave)
		}
		near := enterFrom(s, "10.0.0.1", 1, false)
		leave[0]()
		later := enterAs(s, far, 1, false)
		leave[1]()
		synctest.Wait()
		require.True(t, (<-near).ok, "what came later has taken its place")
		leave[2]()
		require.True(t, (<-later).ok)
		require.Equal(t, s.most*whole, s.taken)
	})
	synctest.Test(t, func(t *testing.T) {
		s := New(1, 2)
		(<-enterAs(s, far, 1, false)).leave()
		require.True(t, (<-enterAs(s, far, 1, false)).ok)
		near := enterFrom(s, "10.0.0.1", 1, false)
		time.Sleep(wire.SlotWait / 2)
		next := enterAs(s, far, 1, false)
		got := <-near
		require.False(t, got.ok, "half a slot is none")
		got = <-next
		require.True(t, got.ok, "what waited before it has gone")
		assert.Equal(t, wire.SlotWait/2, got.after)
	})
	synctest.Test(t, func(t *testing.T) {
		s := New(1, 0)
		near := far
		near.Trip--
		(<-enterAs(s, far, 1, false)).leave()
		(<-enterAs(s, near, 1, false)).leave()
		require.True(t, (<-enterAs(s, far, 1, false)).ok)
		require.False(t, (<-enterAs(s, far, 1, false)).ok, "a connection behind a full queue is no long way")
	})
}

// A request for a slot to spare never waits, and gets one when slots have sufficed for all
// others for a while.
func TestASlotToSpareIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(8, 2)
		got := <-enterAll(s, 1, true)
		require.True(t, got.ok, "no other has asked in vain")
		var leave []func()
		for range 8 - 1 {
			leave = append(leave, (<-enterAll(s, 1, false)).leave)
		}
		for range 2 {
			got := <-enterAll(s, 1, true)
			require.False(t, got.ok)
			assert.Zero(t, got.after)
		}
		got = <-enterAll(s, 1, false)
		require.False(t, got.ok)
		leave[0]()
		time.Sleep(spareAfter - 1)
		require.False(t, (<-enterAll(s, 1, true)).ok)
		time.Sleep(time.Nanosecond)
		require.True(t, (<-enterAll(s, 1, true)).ok)
	})
}

func TestAHostWithoutItsPartComesBeforeOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(8, 2)
		var leave []func()
		for range 8 {
			leave = append(leave, (<-enterAll(s, 1, false)).leave)
		}
		first := enterAll(s, 2, false)
		other := enterFrom(s, "10.0.0.2", 1, false)
		leave[0]()
		synctest.Wait()
		require.True(t, (<-other).ok, "it waits although others have all slots")
		leave[1]()
		require.True(t, (<-first).ok)
		require.False(t, (<-first).ok)
	})
}
