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

// judged returns after how many looks, at each of which the connections of a host have the next of their readings,
// their way counts as lossy; 0 is never.
func judged(conns ...[]reading) int {
	var s suspicion
	now, last := time.Now(), make([]reading, len(conns))
	for look := range conns[0] {
		steps := make([]step, len(conns))
		for i := range conns {
			steps[i], last[i] = step{last[i], conns[i][look]}, conns[i][look]
		}
		if s.add(now.Add(time.Duration(look)*lookEvery), steps) {
			return look + 1
		}
	}
	return 0
}

func TestALongWayIsLossyWhenPacketsAreLostWithoutAQueue(t *testing.T) {
	const free, full = 105 * time.Millisecond, 150 * time.Millisecond
	one := func(all ...reading) []reading { return all }
	assert.Equal(t, 3, judged(one(trips(free, 0), trips(free, 1), trips(free, 2))))
	assert.Zero(t, judged(one(trips(free, 0), trips(free, 1), trips(free, 1), trips(free, 1))), "once is the beginning")
	assert.Zero(t, judged(one(trips(full, 0), trips(full, 9), trips(full, 20))), "a full queue loses packets")
	assert.Zero(t, judged(one(trips(full, 0), trips(free, 1), trips(full, 1), trips(free, 2))), "so does one before")
	assert.Zero(t, judged(one(trips(free, 0), trips(free, 0), trips(free, 0))), "nothing is lost")
	near := func(n uint32) reading { return reading{time.Millisecond, time.Millisecond, n} }
	assert.Zero(t, judged(one(near(0), near(1), near(2), near(3))), "a short way recovers in time")
}

func TestTheConnectionsOfAHostHaveOneWay(t *testing.T) {
	const free, full = 105 * time.Millisecond, 150 * time.Millisecond
	lossy := []reading{trips(free, 0), trips(free, 1), trips(free, 1)}
	late := []reading{trips(free, 0), trips(free, 0), trips(free, 1)}
	whole := []reading{trips(free, 0), trips(free, 0), trips(free, 0)}
	crowded := []reading{trips(full, 0), trips(full, 9), trips(full, 20)}
	assert.Equal(t, 2, judged(lossy, lossy, lossy, lossy, whole), "each loses a packet")
	assert.Equal(t, 3, judged(lossy, late, late, lossy, whole))
	assert.Zero(t, judged(lossy, late, whole, whole), "two of four are too few")
	assert.Zero(t, judged(lossy, lossy, lossy, lossy, crowded, crowded, crowded), "a queue was full then")
	assert.Equal(t, 3, judged(lossy, late, late, lossy, whole, crowded), "it was so for few")
}

func TestSignsOfALossyWayExpire(t *testing.T) {
	var s suspicion
	now := time.Now()
	lost := func(n uint32) []step {
		return []step{{trips(100*time.Millisecond, n-1), trips(100*time.Millisecond, n)}}
	}
	assert.False(t, s.add(now, lost(1)))
	assert.False(t, s.add(now.Add(suspectFor+1), lost(2)))
	assert.True(t, s.add(now.Add(suspectFor+2), lost(3)))
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
