package rank

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

func TestRankingStaysInRangeWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const upstreams = 3
		now := time.Unix(0, 0)
		draw := rapid.Float64Range(0, math.Nextafter(1, 0))
		r := NewRanking(upstreams, func() time.Time { return now }, func() float64 { return draw.Draw(t, "draw") })
		product := func(i int) float64 { return r.estimates[i].throughput * r.estimates[i].successAt(now) }
		which := rapid.IntRange(0, upstreams-1)
		t.Repeat(map[string]func(*rapid.T){
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "dur")))
			},
			"delivered": func(t *rapid.T) {
				bytes := rapid.Int64Range(1, math.MaxInt64).Draw(t, "bytes")
				dur := time.Duration(rapid.Int64().Draw(t, "dur"))
				r.Delivered(which.Draw(t, "upstream"), bytes, dur)
			},
			"failed": func(t *rapid.T) {
				i := which.Draw(t, "upstream")
				before, success := product(i), r.estimates[i].successAt(now)
				r.Failed(i)
				assert.LessOrEqual(t, product(i), before)
				assert.LessOrEqual(t, r.estimates[i].successAt(now), success)
			},
			"": func(t *rapid.T) {
				for i, e := range r.estimates {
					assert.False(t, math.IsInf(e.throughput, 0) || math.IsNaN(e.throughput) || e.throughput < 0,
						"throughput %v of %d", e.throughput, i)
					success := e.successAt(now)
					assert.True(t, 0 <= success && success <= 1, "success %v of %d", success, i)
				}
				allowed := rapid.SliceOfN(rapid.Bool(), upstreams, upstreams).Draw(t, "allowed")
				picked := r.Pick(func(i int) bool { return allowed[i] })
				if picked >= 0 {
					assert.True(t, allowed[picked])
				} else {
					assert.NotContains(t, allowed, true)
				}
			},
		})
	})
}
