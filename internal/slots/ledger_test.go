package slots_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/slots"
)

func TestEachStreamHasShardsOfItsOwn(t *testing.T) {
	l := slots.NewLedger()
	m := shard.Manifest{Size: 2, ShardSize: 1, Digest: shard.Digest{1}, Shards: make([]shard.Digest, 2)}
	version, delta := slots.Stream{Version: 8}, slots.Stream{Version: 8, Base: 7}
	ended, err := l.Begin(delta, 2, m, true)
	require.NoError(t, err)
	assert.False(t, l.IsFresh(delta, 2, m))
	_, err = l.Begin(delta, 2, m, true)
	require.ErrorIs(t, err, slots.ErrSent)
	ended(1)
	assert.Equal(t, []int{2}, l.Sent(delta, m))
	for _, other := range []slots.Stream{version, {Version: 8, Base: 6}} {
		assert.True(t, l.IsFresh(other, 2, m))
		assert.Empty(t, l.Sent(other, m))
	}
}

func TestALedgerForgetsStreamsOfWhichThereAreTooMany(t *testing.T) {
	l := slots.NewLedger()
	m := shard.Manifest{Size: 1, ShardSize: 1, Digest: shard.Digest{1}, Shards: make([]shard.Digest, 1)}
	const more = 100
	for v := range more {
		ended, err := l.Begin(slots.Stream{Version: shard.Version(v + 1)}, 1, m, true)
		require.NoError(t, err)
		ended(1)
	}
	known := 0
	for v := range more {
		known += len(l.Sent(slots.Stream{Version: shard.Version(v + 1)}, m))
	}
	assert.Equal(t, 32, known)
	assert.Equal(t, []int{1}, l.Sent(slots.Stream{Version: more}, m), "the last one")
}
