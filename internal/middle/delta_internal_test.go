package middle

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/shard"
)

func TestTheDeltaFromTheNewestBaseIsRelayed(t *testing.T) {
	line := func(base shard.Version, size int64) shard.Delta { return shard.Delta{Base: base, Size: size} }
	for name, tc := range map[string]struct {
		deltas []shard.Delta
		want   shard.Version
	}{
		"of none":                  {nil, 0},
		"of one":                   {[]shard.Delta{line(3, 10)}, 3},
		"the newest":               {[]shard.Delta{line(7, 40), line(9, 50), line(8, 10)}, 9},
		"not more than a half":     {[]shard.Delta{line(9, 51), line(8, 10)}, 8},
		"none of more than a half": {[]shard.Delta{line(9, 51), line(8, 99)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := relayed(shard.Manifest{Size: 100, Deltas: tc.deltas})
			assert.Equal(t, tc.want, got.Base)
			assert.Equal(t, tc.want != 0, ok)
		})
	}
}
