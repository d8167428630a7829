package fetch_test

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
)

func TestFetchIsAsFastAsAllUpstreamsTogether(t *testing.T) {
	const unit = megabyte / 3 // enough to take ten seconds, and little enough to be quick
	for name, tc := range map[string]struct {
		speeds          []float64 // in units per second
		size, shardSize int       // in units; 0 for a third
	}{
		"100 : 20 : 1":              {[]float64{5, 1, 0.05}, 60, 1},
		"100 : 20 : 1, many shards": {[]float64{5, 1, 0.05}, 60, 0},
		"100 : 20 : 1, big shards":  {[]float64{5, 1, 0.05}, 60, 6},
		"50 : 30":                   {[]float64{2.5, 1.5}, 60, 1},
		"three alike":               {[]float64{2, 2, 2}, 60, 1},
		"one":                       {[]float64{2}, 30, 1},
		"one, and one shard":        {[]float64{2}, 30, 30},
		"50 : 30, and one shard":    {[]float64{2.5, 1.5}, 60, 60},
		"eight, and few shards":     {[]float64{1, 1, 1, 1, 1, 1, 1, 1}, 60, 20},
	} {
		t.Run(name, func(t *testing.T) {
			shardSize := cmp.Or(tc.shardSize*unit, unit/3)
			simulate(t, publish(t, tc.size*unit, shardSize), func(t *testing.T, n *network) {
				var hosts []*host
				var sum float64
				for i, speed := range tc.speeds {
					hosts = append(hosts, n.host(fmt.Sprint("host", i), speed*unit))
					sum += speed * unit
				}
				got := n.fetch(t, fetch.Options{}, hosts...)
				got.assertWithin(t, 1.15, sum)
				assert.LessOrEqual(t, got.wastedPercent(), 5.)
			})
		})
	}
}

func TestFetchKeepsToItsRate(t *testing.T) {
	for name, tc := range map[string]struct {
		rate               int64
		shardSize, workers int
	}{
		"slow": {10_000, megabyte, 10}, "medium": {megabyte / 2, megabyte, 10}, "fast": {3 * megabyte, megabyte, 10},
		// With so many workers each has its turn seldom, and must not count as stalled.
		"very slow": {500, 500, 10}, "slow, by many": {5000, 1000, 100},
	} {
		t.Run(name, func(t *testing.T) {
			rate := tc.rate
			size := int(min(60*rate, 20*megabyte))
			simulate(t, publish(t, size, tc.shardSize), func(t *testing.T, n *network) {
				one, two := n.host("one", 4*megabyte), n.host("two", 4*megabyte)
				got := n.fetch(t, fetch.Options{LimitRate: rate, Concurrency: tc.workers}, one, two)
				t.Logf("took %v", got.took)
				assert.InEpsilon(t, float64(size)/float64(rate), got.took.Seconds(), 0.05)
				assert.LessOrEqual(t, got.wastedPercent(), 5.)
			})
		})
	}
}

func TestOverALongWayTwiceAsManyShardsAreInFlight(t *testing.T) {
	for name, tc := range map[string]struct {
		away  time.Duration
		given int
		want  int
	}{
		"near": {19 * time.Millisecond, 0, fetch.DefaultConcurrency}, "far": {20 * time.Millisecond, 0, 20},
		"as given": {time.Second, 4, 4},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, 20*megabyte, megabyte/2), func(t *testing.T, n *network) {
				origin := n.host("origin", 4*megabyte).isAway(tc.away)
				n.fetch(t, fetch.Options{Concurrency: tc.given}, origin)
				assert.Equal(t, tc.want, origin.atOnce())
			})
		})
	}
}

// The wait for the rate after one read may be longer than a server may be silent.
func TestAWaitForTheRateDoesNotCountAsSilence(t *testing.T) {
	const rate = 2000 // half a second for a KiB, the least that is received at once
	simulate(t, publish(t, 10_000, 10_000), func(t *testing.T, n *network) {
		only := n.host("only", megabyte)
		got := n.fetch(t, fetch.Options{LimitRate: rate, Timeout: 200 * time.Millisecond}, only)
		assert.Len(t, only.asked(), 1)
		assert.Zero(t, got.Wasted)
		assert.LessOrEqual(t, got.took, 5*time.Second)
	})
}

func TestFetchesOfAPoolShareItsRate(t *testing.T) {
	simulate(t, publish(t, 5*megabyte, megabyte), func(t *testing.T, n *network) {
		pool := n.client(t, fetch.Options{LimitRate: megabyte}, 1, n.host("one", 4*megabyte))
		require.NoError(t, pool.Refresh(t.Context(), fetch.All))
		e := pool.Offers()[0]
		start := time.Now()
		errs := make(chan error)
		for range 2 {
			go func() { errs <- fetchTo(t.Context(), pool, e, new(memory)) }()
		}
		require.NoError(t, <-errs)
		require.NoError(t, <-errs)
		assert.InEpsilon(t, 10, time.Since(start).Seconds(), 0.05)
	})
}
