package fetch_test

import (
	"cmp"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/fetch"
)

func TestFetchIsAsFastAsAllUpstreamsTogether(t *testing.T) {
	for name, tc := range map[string]struct {
		speeds          []float64 // in megabytes per second
		size, shardSize int       // in megabytes; 0 for a quarter
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
			shardSize := cmp.Or(tc.shardSize*megabyte, megabyte/4)
			simulate(t, publish(t, tc.size*megabyte, shardSize), func(t *testing.T, n *network) {
				var hosts []*host
				var sum float64
				for i, speed := range tc.speeds {
					hosts = append(hosts, n.host(fmt.Sprint("host", i), speed*megabyte))
					sum += speed * megabyte
				}
				got := n.fetch(t, fetch.Options{}, hosts...)
				got.assertWithin(t, 1.15, sum)
				assert.LessOrEqual(t, got.wastedPercent(), 5.)
			})
		})
	}
}
