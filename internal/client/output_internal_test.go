package client

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/partial"
	"github.com/shardcast/shardcast/internal/shard"
)

// openOutput opens an output named base in a directory.
func openOutput(t *testing.T, dir, base string) *output {
	t.Helper()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	m := shard.Manifest{Size: 10, ShardSize: 10, Shards: make([]shard.Digest, 1)}
	out, err := create(t.Context(), partial.Target{Dir: root, Base: base}, m, nil, false)
	require.NoError(t, err)
	return out
}

func TestADownloadLeavesThatOfAFileWithTheNameOfItsDelta(t *testing.T) {
	dir := t.TempDir()
	other := openOutput(t, dir, "weights"+deltaSuffix)
	require.NoError(t, openOutput(t, dir, "weights").close(false))
	require.NoError(t, other.commit())
	assert.FileExists(t, filepath.Join(dir, "weights"+deltaSuffix))
	require.NoError(t, other.close(false))
}

func TestEachDeltaThatAKilledDownloadHasLeftGoes(t *testing.T) {
	dir := t.TempDir()
	for _, number := range []int{0, 2, fetch.MostSteps - 1} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, partial.Name(deltaName("weights", number))), nil, 0o600))
	}
	require.NoError(t, openOutput(t, dir, "weights").close(false))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}
