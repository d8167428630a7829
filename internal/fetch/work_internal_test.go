package fetch

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/shard"
)

// wishes is a sink for which shards are wanted.
type wishes struct {
	slate

	wanted chan int
}

func (w *wishes) Wanted() <-chan int { return w.wanted }

func TestAShardThatIsWantedBeforeItIsCutIsBegunFirstWhenItIs(t *testing.T) {
	w := &wishes{wanted: make(chan int, 3)}
	f := &fetching{
		cut: new(Cut), sink: w, begun: make([]bool, 3), opening: make(map[int]bool), digests: make([]shard.Digest, 3),
		manifest: shard.Manifest{Size: 3, ShardSize: 1, Shards: make([]shard.Digest, 3)},
	}
	w.wanted <- 3
	assert.Zero(t, f.fresh().Number)
	f.digests[0], f.digests[2] = shard.Digest{1}, shard.Digest{3}
	assert.Equal(t, 3, f.fresh().Number)
	assert.Equal(t, 1, f.fresh().Number)
	assert.Zero(t, f.fresh().Number)
	f.digests[1] = shard.Digest{2}
	assert.Equal(t, 2, f.fresh().Number)
	assert.Empty(t, f.wanted)
}
