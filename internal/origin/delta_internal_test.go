package origin

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/shard"
)

func TestADeltaIsCutSoThatNodesOfASwarmCanSwapIt(t *testing.T) {
	const kib, mib, gib = 1 << 10, 1 << 20, 1 << 30
	for name, tc := range map[string]struct{ size, whole, shardSize, shards int64 }{
		"tiny":       {9, gib, 64 * kib, 1},
		"small":      {mib, gib, 64 * kib, 16},
		"of weights": {7 * mib, gib, 224 * kib, 32},
		"large":      {8 * mib, gib, 256 * kib, 32},
		"huge":       {70 * gib, 140 * gib, 1956 * kib, 37526},
		"largest":    {1 << 59, 1 << 60, 1<<43 + 4*kib, 65536},
	} {
		t.Run(name, func(t *testing.T) {
			got := deltaShardSize(min(tc.size, smallDelta), tc.whole)
			assert.Equal(t, tc.shardSize, got)
			assert.Equal(t, tc.shards, (tc.size-1)/got+1)
			assert.LessOrEqual(t, tc.shards, int64(shard.MaxShards))
		})
	}
}
