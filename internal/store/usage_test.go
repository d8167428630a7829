package store_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/store"
)

func TestUsageIsTheSpaceOnTheDisk(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(dir, store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	none, err := st.Usage()
	require.NoError(t, err)
	assert.Empty(t, none.Held)
	assert.Zero(t, none.Shards)

	data := make([]byte, 1<<20)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "v7"), 0o755))
	for _, name := range []string{"v7/shard_001.bin", "v7/shard_00002.bin", "v7/notes.txt", "stranger.bin"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	line := "v7: 6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b\n" +
		"v8: 6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b\n" // which is gone
	require.NoError(t, os.WriteFile(filepath.Join(dir, "distribution.txt"), []byte(line), 0o600))
	got, err := st.Usage()
	require.NoError(t, err)
	assert.Len(t, got.Held, 2)
	assert.EqualValues(t, 2, got.Shards)
	assert.GreaterOrEqual(t, got.Bytes, int64(3<<20))
	assert.Less(t, got.Bytes, int64(4<<20), "files that are not ours do not count")

	again, err := st.Usage()
	require.NoError(t, err)
	got.Free, again.Free = 0, 0 // others write too
	assert.Equal(t, got, again)

	require.NoError(t, os.WriteFile(filepath.Join(dir, ".shardcast", "drafts", "part"), data, 0o600))
	again, err = st.Usage()
	require.NoError(t, err)
	assert.Equal(t, got.Bytes+1<<20, again.Bytes, "a draft takes room")
	assert.Equal(t, got.Shards, again.Shards)

	require.NoError(t, os.Remove(filepath.Join(dir, "distribution.txt")))
	again, err = st.Usage()
	require.NoError(t, err)
	assert.Zero(t, again.Shards)
}

func TestShardsAreThoseThatHaveAFile(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(dir, store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	_, err = st.Shards(7)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "v7", "shard_009.bin"), 0o755))
	for _, name := range []string{"shard_001.bin", "shard_00002.bin", "shard_002.bin", "manifest.json", "notes.txt"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "v7", name), nil, 0o600))
	}
	got, err := st.Shards(7)
	require.NoError(t, err)
	assert.ElementsMatch(t, []int{1, 2, 2}, got)
}

func TestAShardThatTwoVersionsShareTakesItsSpaceOnce(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(dir, store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	none, err := st.Usage()
	require.NoError(t, err)
	first := filepath.Join(dir, "v1", "shard_001.bin")
	list := func(text string) store.Usage {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "distribution.txt"), []byte(text), 0o600))
		got, err := st.Usage()
		require.NoError(t, err)
		return got
	}
	const digest = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b\n"
	require.NoError(t, os.Mkdir(filepath.Join(dir, "v1"), 0o755))
	require.NoError(t, os.WriteFile(first, make([]byte, 1<<20), 0o600))
	one := list("v1: " + digest)
	assert.Greater(t, one.Bytes, none.Bytes)

	require.NoError(t, os.Mkdir(filepath.Join(dir, "v2"), 0o755))
	require.NoError(t, os.Link(first, filepath.Join(dir, "v2", "shard_001.bin")))
	both := list("v1: " + digest + "v2: " + digest)
	assert.Equal(t, one.Bytes, both.Bytes)
	assert.EqualValues(t, 2, both.Shards)
}
