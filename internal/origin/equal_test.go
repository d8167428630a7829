package origin_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
)

func TestEqualShardsAreStoredOnce(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	o := newOrigin(st, 10)
	before := content(1, 5*shardSize)
	after := append(content(2, shardSize), before...) // each shard is one further
	after[2*shardSize] ^= 1
	for _, data := range [][]byte{before, after} {
		_, err := o.Broadcast(t.Context(), file(t, data))
		require.NoError(t, err)
	}
	_, got := published(t, st, 2)
	assert.True(t, bytes.Equal(after, got))
	stat := func(version string, number int) os.FileInfo {
		info, err := os.Stat(filepath.Join(dir, version, shard.FileName(number)))
		require.NoError(t, err)
		return info
	}
	for number := range 5 {
		assert.Equal(t, number != 1, os.SameFile(stat("v1", number+1), stat("v2", number+2)), number)
	}
}

func TestAShardIsNotSharedWithOneThatIsDamaged(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir)
	o := newOrigin(st, 10)
	data := content(1, 3*shardSize)
	_, err := o.Broadcast(t.Context(), file(t, data))
	require.NoError(t, err)
	damaged := filepath.Join(dir, "v1", shard.FileName(2))
	require.NoError(t, os.WriteFile(damaged, bytes.Repeat([]byte("x"), shardSize), 0o600))
	_, err = o.Broadcast(t.Context(), file(t, data))
	require.NoError(t, err)
	_, got := published(t, st, 2)
	assert.True(t, bytes.Equal(data, got))
}
