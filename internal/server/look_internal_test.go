package server

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/slots"
	"github.com/shardcast/shardcast/internal/swarm"
)

func TestNodesThatFollowAStreamShareALookAtItsShards(t *testing.T) {
	data := []byte("0123456789")
	digest := shard.Digest(sha256.Sum256(data))
	name := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(name, data, 0o600))
	synctest.Test(t, func(t *testing.T) {
		board := relay.NewBoard()
		m := shard.Manifest{Name: "file", Size: 10, ShardSize: 5, Digest: digest, Shards: []shard.Digest{{1}, {2}}}
		open := func(int) (relay.File, error) { return os.Open(name) }
		entry := distfile.Entry{Version: 1, Digest: digest}
		v := board.Begin(entry, m, 1, open)
		board.List(entry)
		s := newSwarming(catalog.New(nil, board), nil)
		states := func() []swarm.State {
			now, err := s.shared(t.Context(), target{version: 1}, digest, time.Second)
			require.NoError(t, err)
			return now
		}
		assert.Equal(t, []swarm.State{swarm.Missing, swarm.Missing}, states())
		v.Shard(1).Verify()
		time.Sleep(time.Second - 1)
		assert.Equal(t, []swarm.State{swarm.Missing, swarm.Missing}, states(), "as it was")
		time.Sleep(time.Nanosecond)
		assert.Equal(t, []swarm.State{swarm.Held, swarm.Missing}, states())

		_, err := s.shared(t.Context(), target{version: 1}, shard.Digest{1}, time.Second)
		require.Error(t, err, "there is no such stream")
		for other := range 2 * mostLooks {
			s.looks[slots.Stream{Version: shard.Version(other + 2)}] = look{}
		}
		time.Sleep(time.Second)
		states()
		assert.LessOrEqual(t, len(s.looks), mostLooks)
	})
}
