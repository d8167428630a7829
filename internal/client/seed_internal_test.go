package client

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// The lists of three versions of very many files have no room in a client's memory.
func TestARecordOfMoreFilesThanHaveRoomIsNotRead(t *testing.T) {
	laid, err := tree.Lay([]tree.File{{Path: "a", Size: 1}, {Path: "b", Size: 1}})
	require.NoError(t, err)
	text := laid.Encode()
	m := shard.Manifest{
		Size: laid.Size(), ShardSize: laid.Size(), Digest: shard.Digest{1}, Shards: []shard.Digest{{1}},
		Files: &shard.Files{Count: 2, Size: int64(len(text)), Digest: sha256.Sum256(text)},
	}
	manifest, err := m.Encode()
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, shard.ManifestName), manifest, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, shard.FilesName), text, 0o600))
	_, read, err := readRecord(dir, 2)
	require.NoError(t, err)
	assert.Equal(t, 2, read.Len())
	_, read, err = readRecord(dir, 1)
	require.NoError(t, err)
	assert.Nil(t, read)
}
