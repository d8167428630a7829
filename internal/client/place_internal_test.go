package client

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/partial"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/transfer"
	"github.com/shardcast/shardcast/internal/transfer/placetest"
)

func TestOutputIsAPlaceForShards(t *testing.T) {
	for name, shared := range map[string]bool{"alone": false, "in a swarm": true} {
		t.Run(name, func(t *testing.T) {
			placetest.Test(t, placetest.Implementation{
				Open: func(t *testing.T, dir string, m shard.Manifest) (transfer.Sink, func()) {
					t.Helper()
					root, err := os.OpenRoot(dir)
					require.NoError(t, err)
					out, err := create(t.Context(), partial.Target{Dir: root, Base: "weights.bin"}, m, nil, false)
					require.NoError(t, err)
					if shared {
						none := func(int) (relay.File, error) { return nil, os.ErrNotExist }
						out.shared = relay.NewBoard().Begin(distfile.Entry{Version: 1, Digest: m.Digest}, m, 1, none)
					}
					return out, func() { assert.NoError(t, out.close(true)) }
				},
				File: func(dir string, s shard.Shard) (string, int64) {
					return filepath.Join(dir, partial.Name("weights.bin")), s.Offset
				},
			})
		})
	}
}

func TestAPathThatLeadsToNoFileNamesTheWayToStdout(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "out")
	require.NoError(t, os.Symlink(os.DevNull, pipe))
	_, _, err := openPlace(pipe)
	require.ErrorContains(t, err, "it is not a regular file; - stands for stdout")
}
