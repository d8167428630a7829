package rank_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/rank"
)

// table is a ranking whose clock and draws a test decides.
type table struct {
	*rank.Ranking

	now  time.Time
	draw float64
}

func newTable(upstreams int) *table {
	tb := &table{now: time.Unix(1_000_000, 0)}
	tb.Ranking = rank.NewRanking(upstreams, func() time.Time { return tb.now }, func() float64 { return tb.draw })
	return tb
}

func (tb *table) pick(draw float64, allowed ...int) int {
	tb.draw = draw
	return tb.Pick(func(i int) bool {
		for _, a := range allowed {
			if a == i {
				return true
			}
		}
		return len(allowed) == 0
	})
}

// assertShare says that draws below share pick upstream 0 and the others the
// next one.
func (tb *table) assertShare(t *testing.T, share float64) {
	t.Helper()
	const grain = 1e-12
	assert.Equal(t, 0, tb.pick(0))
	assert.Equal(t, 0, tb.pick(share-grain), "just below %v", share)
	assert.Equal(t, 1, tb.pick(share+grain), "just above %v", share)
	assert.Equal(t, 1, tb.pick(1-grain))
}

func TestRankingDrawsInProportionToTheProduct(t *testing.T) {
	for name, tc := range map[string]struct {
		happens func(tb *table)
		want    float64 // upstream 0's share of the two
	}{
		"nothing is known": {func(*table) {}, 0.5},
		"three times as fast": {func(tb *table) {
			tb.Delivered(0, 300, time.Second)
			tb.Delivered(1, 100, time.Second)
		}, 300. / 400},
		"more bytes in more time": {func(tb *table) {
			tb.Delivered(0, 3000, 10*time.Second)
			tb.Delivered(1, 30, 100*time.Millisecond)
		}, 0.5},
		"the newest sample weighs 0.3": {func(tb *table) {
			tb.Delivered(0, 100, time.Second)
			tb.Delivered(0, 200, time.Second)
			tb.Delivered(1, 100, time.Second)
		}, 130. / 230},
		"and those before it less and less": {func(tb *table) {
			tb.Delivered(0, 100, time.Second)
			tb.Delivered(0, 200, time.Second)
			tb.Delivered(0, 50, time.Second)
			tb.Delivered(1, 100, time.Second)
		}, (0.3*50 + 0.7*130) / (0.3*50 + 0.7*130 + 100)},
		"no sample counts as the fastest": {func(tb *table) { tb.Delivered(1, 12345, time.Second) }, 0.5},
		"a failure weighs 0.3": {func(tb *table) {
			tb.Delivered(0, 100, time.Second)
			tb.Delivered(1, 100, time.Second)
			tb.Failed(0)
		}, 0.7 / 1.7},
		"two failures": {func(tb *table) {
			tb.Failed(0)
			tb.Failed(0)
		}, 0.49 / 1.49},
		"a success after a failure weighs 0.3": {func(tb *table) {
			tb.Failed(0)
			tb.Delivered(0, 100, time.Second)
			tb.Delivered(1, 100, time.Second)
		}, 0.79 / 1.79},
		"a failure leaves the throughput": {func(tb *table) {
			tb.Delivered(0, 300, time.Second)
			tb.Delivered(1, 100, time.Second)
			tb.Failed(0)
		}, 210. / 310},
		"half heals in 10 s": {func(tb *table) {
			tb.Failed(0)
			tb.now = tb.now.Add(10 * time.Second)
		}, 0.85 / 1.85},
		"and half of the rest in 10 s more": {func(tb *table) {
			tb.Failed(0)
			tb.now = tb.now.Add(20 * time.Second)
		}, 0.925 / 1.925},
		"a failure after healing": {func(tb *table) {
			tb.Failed(0)
			tb.now = tb.now.Add(10 * time.Second)
			tb.Failed(0)
		}, 0.7 * 0.85 / (0.7*0.85 + 1)},
		"after a day all is forgiven": {func(tb *table) {
			tb.Failed(0)
			tb.now = tb.now.Add(24 * time.Hour)
		}, 0.5},
		"no time at all counts as a millisecond": {func(tb *table) {
			tb.Delivered(0, 1000, 0)
			tb.Delivered(1, 1000, time.Millisecond)
		}, 0.5},
		"nor does time run backwards": {func(tb *table) {
			tb.Delivered(0, 1000, -time.Hour)
			tb.Delivered(1, 1000, time.Millisecond)
		}, 0.5},
		"the largest sample there is": {func(tb *table) {
			tb.Delivered(0, math.MaxInt64, 0)
			tb.Delivered(1, math.MaxInt64, 0)
		}, 0.5},
	} {
		t.Run(name, func(t *testing.T) {
			tb := newTable(2)
			tc.happens(tb)
			tb.assertShare(t, tc.want)
		})
	}
}

func TestRankingDrawsAmongThreeWithOneUnknown(t *testing.T) {
	tb := newTable(3)
	tb.Delivered(0, 100, time.Second)
	tb.Delivered(1, 300, time.Second)
	for draw, want := range map[float64]int{0: 0, 0.14: 0, 0.15: 1, 0.57: 1, 0.58: 2, 0.99: 2} {
		assert.Equal(t, want, tb.pick(draw), "draw %v of 100:300:300", draw)
	}
	for draw, want := range map[float64]int{0: 0, 0.24: 0, 0.26: 2, 0.99: 2} {
		assert.Equal(t, want, tb.pick(draw, 0, 2), "draw %v of 100:300", draw)
	}
}

func TestRankingNeverRaisesAServerThatFails(t *testing.T) {
	tb := newTable(2)
	tb.Delivered(0, 1, time.Second)
	tb.Delivered(1, 1000, time.Second)
	assert.Equal(t, 0, tb.pick(0.0009))
	for range 50 {
		tb.Failed(0)
		tb.now = tb.now.Add(time.Second)
		assert.Equal(t, 1, tb.pick(0.001))
	}
}

func TestRankingPicksNothingWhereNothingIsAllowed(t *testing.T) {
	assert.Equal(t, -1, newTable(2).pick(0.5, 7))
	assert.Equal(t, -1, newTable(0).pick(0.5))
}

func TestRankingPicksTheLastOneLeftHoweverBad(t *testing.T) {
	tb := newTable(2)
	tb.Delivered(0, 1, time.Hour)
	tb.Delivered(1, math.MaxInt64, 0)
	for range 10_000 {
		tb.Failed(0)
	}
	for _, draw := range []float64{0, 0.5, math.Nextafter(1, 0)} {
		assert.Equal(t, 0, tb.pick(draw, 0), "draw %v", draw)
	}
}
