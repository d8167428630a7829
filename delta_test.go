package shardcast_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast"
)

func TestABroadcastSaysWhichDeltasItHasMade(t *testing.T) {
	dir := t.TempDir()
	o, err := shardcast.NewOrigin(shardcast.OriginOptions{DataDir: dir})
	require.NoError(t, err)
	t.Cleanup(func() { _ = o.Close() })
	file := filepath.Join(t.TempDir(), "weights.bin")
	data := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	broadcast := func(bases int) shardcast.Version {
		data[len(data)/2]++
		require.NoError(t, os.WriteFile(file, data, 0o600))
		got, err := o.BroadcastAs(t.Context(), file, shardcast.BroadcastOptions{DeltaBases: bases})
		require.NoError(t, err)
		return got.Version
	}
	first := broadcast(0)
	assert.Empty(t, first.Deltas)
	_, err = shardcast.ChangeSettings(t.Context(), dir, shardcast.Settings{DeltaBases: 2})
	require.NoError(t, err)
	second := broadcast(0)
	require.Len(t, second.Deltas, 1)
	assert.Equal(t, "v1", second.Deltas[0].Base)
	assert.Equal(t, first.Digest, second.Deltas[0].BaseDigest)
	assert.Positive(t, second.Deltas[0].Elapsed)
	assert.Less(t, second.Deltas[0].Size, int64(1000))
	assert.Len(t, broadcast(0).Deltas, 2)
	assert.Len(t, broadcast(1).Deltas, 1)
	assert.Empty(t, broadcast(-1).Deltas)
	before, err := shardcast.ChangeSettings(t.Context(), dir, shardcast.Settings{DeltaBases: -1})
	require.NoError(t, err)
	assert.Equal(t, 2, before.DeltaBases)
	assert.Empty(t, broadcast(0).Deltas)

	held, err := shardcast.HeldVersions(dir)
	require.NoError(t, err)
	assert.Len(t, held[2].Version.Deltas, 2)
	assert.Zero(t, held[2].Version.Deltas[0].Elapsed)
}

func TestDeltasFromTooManyVersionsAreRefused(t *testing.T) {
	dir := t.TempDir()
	o, err := shardcast.NewOrigin(shardcast.OriginOptions{DataDir: dir})
	require.NoError(t, err)
	t.Cleanup(func() { _ = o.Close() })
	_, err = o.BroadcastAs(t.Context(), "any", shardcast.BroadcastOptions{DeltaBases: 65})
	require.ErrorIs(t, err, shardcast.ErrOptions)
	_, err = shardcast.ChangeSettings(t.Context(), dir, shardcast.Settings{DeltaBases: 65})
	require.ErrorIs(t, err, shardcast.ErrOptions)
	_, err = shardcast.NewOrigin(shardcast.OriginOptions{
		DataDir: dir, Watch: shardcast.WatchOptions{Dir: t.TempDir(), DeltaBases: 65},
	})
	require.ErrorIs(t, err, shardcast.ErrOptions)
	require.ErrorContains(t, err, "Watch.DeltaBases: 65, want up to 64")
}
