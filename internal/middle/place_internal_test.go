package middle

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/transfer"
	"github.com/shardcast/shardcast/internal/transfer/placetest"
)

func TestDraftIsAPlaceForShards(t *testing.T) {
	placetest.Test(t, placetest.Implementation{
		Open: func(t *testing.T, dir string, m shard.Manifest) (transfer.Sink, func()) {
			t.Helper()
			st, err := store.Open(dir, store.Middle)
			require.NoError(t, err)
			draft, err := st.Draft(1)
			require.NoError(t, err)
			arriving := relay.NewBoard().Begin(distfile.Entry{Version: 1, Digest: m.Digest}, m, 1, relay.Files(draft.Read))
			return arrival{draft, arriving}, func() { assert.NoError(t, st.Close()) }
		},
		File: func(dir string, s shard.Shard) (string, int64) {
			return filepath.Join(dir, ".shardcast", "drafts", "v1", shard.FileName(s.Number)), 0
		},
	})
}
