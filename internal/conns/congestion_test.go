package conns

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// trips returns a reading of a way whose least round trip is 100 ms.
func trips(trip time.Duration, resent uint32) reading {
	return reading{trip, 100 * time.Millisecond, resent}
}

// judged returns after how many of the readings, a look apart, a way counts as lossy; 0 is never.
func judged(all ...reading) int {
	var s suspicion
	now := time.Now()
	for i, r := range all {
		if s.add(r, now.Add(time.Duration(i)*lookEvery)) {
			return i + 1
		}
	}
	return 0
}

func TestALongWayIsLossyWhenPacketsAreLostWithoutAQueue(t *testing.T) {
	const free, full = 105 * time.Millisecond, 150 * time.Millisecond
	assert.Equal(t, 3, judged(trips(free, 0), trips(free, 1), trips(free, 2)))
	assert.Zero(t, judged(trips(free, 0), trips(free, 1), trips(free, 1), trips(free, 1)), "once is the beginning")
	assert.Zero(t, judged(trips(full, 0), trips(full, 9), trips(full, 20)), "a full queue loses packets")
	assert.Zero(t, judged(trips(full, 0), trips(free, 1), trips(full, 1), trips(free, 2)), "so does one just before")
	assert.Zero(t, judged(trips(free, 0), trips(free, 0), trips(free, 0)), "nothing is lost")
	near := func(n uint32) reading { return reading{time.Millisecond, time.Millisecond, n} }
	assert.Zero(t, judged(near(0), near(1), near(2), near(3)), "a short way recovers in time")
}

func TestSignsOfALossyWayExpire(t *testing.T) {
	var s suspicion
	now := time.Now()
	assert.False(t, s.add(trips(100*time.Millisecond, 1), now))
	assert.False(t, s.add(trips(100*time.Millisecond, 2), now.Add(suspectFor+1)))
	assert.True(t, s.add(trips(100*time.Millisecond, 3), now.Add(suspectFor+2)))
}

func TestCongestionIsANameOfTheKernels(t *testing.T) {
	for _, name := range []string{Auto, System, "bbr", "cubic", "dctcp-1", "a_b"} {
		require.NoError(t, CheckCongestion(name))
	}
	for _, name := range []string{"", "BBR", "much-too-long-for-it", "a b", "a\x00"} {
		require.ErrorContains(t, CheckCongestion(name), "want auto, system")
	}
}

func TestServeSaysThatTheKernelHasNoSuchControl(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err = Serve(ctx, ln, http.NotFoundHandler(),
		Options{Congestion: "no-such", Logger: slog.New(slog.DiscardHandler)})
	require.ErrorContains(t, err, "congestion control no-such")
	_, err = ln.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}
