package server

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/wire"
)

// entered is the outcome of a request for a slot.
type entered struct {
	leave func()
	err   error
	after time.Duration
}

// enterAll asks for count slots at the same time, for one host.
func enterAll(s *slots, count int, spare bool) <-chan entered {
	return enterFrom(s, "10.0.0.1", count, spare)
}

func enterFrom(s *slots, host string, count int, spare bool) <-chan entered {
	outcomes, begun := make(chan entered, count), time.Now()
	for range count {
		go func() {
			leave, err := s.enter(&http.Request{RemoteAddr: host + ":1234"}, spare)
			outcomes <- entered{leave, err, time.Since(begun)}
		}()
	}
	synctest.Wait()
	return outcomes
}

func TestOfThoseWithoutASlotTwoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(swarmSlots, swarmQueue)
		var leave []func()
		for range swarmSlots {
			got := <-enterAll(s, 1, false)
			require.NoError(t, got.err)
			leave = append(leave, got.leave)
		}
		outcomes := enterAll(s, 3, false)
		for _, after := range []time.Duration{0, wire.SlotWait, wire.SlotWait} {
			got := <-outcomes
			require.ErrorIs(t, got.err, errNoSlot)
			assert.Equal(t, after, got.after)
		}
		outcomes = enterAll(s, 2, false)
		time.Sleep(wire.SlotWait / 2)
		leave[0]()
		got := <-outcomes
		require.NoError(t, got.err)
		assert.Equal(t, wire.SlotWait/2, got.after)
		got = <-outcomes
		require.ErrorIs(t, got.err, errNoSlot)
	})
}

// A request for a slot to spare never waits, and gets one when slots have sufficed for all
// others for a while.
func TestASlotToSpareIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(swarmSlots, swarmQueue)
		got := <-enterAll(s, 1, true)
		require.NoError(t, got.err, "no other has asked in vain")
		var leave []func()
		for range swarmSlots - 1 {
			leave = append(leave, (<-enterAll(s, 1, false)).leave)
		}
		for range 2 {
			got := <-enterAll(s, 1, true)
			require.ErrorIs(t, got.err, errNoSlot)
			assert.Zero(t, got.after)
		}
		got = <-enterAll(s, 1, false)
		require.ErrorIs(t, got.err, errNoSlot)
		leave[0]()
		time.Sleep(spareAfter - 1)
		require.ErrorIs(t, (<-enterAll(s, 1, true)).err, errNoSlot)
		time.Sleep(time.Nanosecond)
		require.NoError(t, (<-enterAll(s, 1, true)).err)
	})
}

func TestAHostWithoutItsPartComesBeforeOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(swarmSlots, swarmQueue)
		var leave []func()
		for range swarmSlots {
			leave = append(leave, (<-enterAll(s, 1, false)).leave)
		}
		first := enterAll(s, 2, false)
		other := enterFrom(s, "10.0.0.2", 1, false)
		leave[0]()
		synctest.Wait()
		require.NoError(t, (<-other).err, "it waits although others have all slots")
		leave[1]()
		require.NoError(t, (<-first).err)
		require.ErrorIs(t, (<-first).err, errNoSlot)
	})
}
