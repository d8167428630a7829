package store_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// python is a data directory as the Python package 0.3.2 has written it.
const python = "../../cmd/testdata/python-0.3.2/data"

// copyPython copies it.
func copyPython(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(python)))
	return dir
}

func TestDirectoryOfPythonIsReadAsItIs(t *testing.T) {
	dir := copyPython(t)
	st := open(t, dir, store.Origin)
	entries, err := st.Distribution()
	require.NoError(t, err)
	require.Len(t, entries, 2)
	for _, e := range entries {
		assert.True(t, st.Holds(e.Version))
		whole := shard.NewBLAKE3()
		for number := 1; number <= e.Count; number++ {
			part, err := shardText(st, e.Version, number)
			require.NoError(t, err)
			_, _ = whole.Write([]byte(part))
		}
		assert.Equal(t, e.Digest, shard.Digest(whole.Sum(nil)))
		_, _, err := st.Shard(e.Version, e.Count+1)
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = st.Manifest(e.Version)
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
	assert.False(t, st.Holds(3))
}

func TestPublishingIntoADirectoryOfPythonLeavesTheRestAsItIs(t *testing.T) {
	dir := copyPython(t)
	before := read(t, dir, distfile.FileName)
	files := snapshot(t, dir, "v1", "v2", "data1.bin")
	st := open(t, dir, store.Origin)
	assert.Equal(t, shard.Version(3), publish(t, st, 5))
	assert.Equal(t, before+distribution(3), read(t, dir, distfile.FileName))
	assert.Equal(t, files, snapshot(t, dir, "v1", "v2", "data1.bin"))

	assert.Equal(t, shard.Version(4), publish(t, st, 3))
	assert.Equal(t, []shard.Version{2, 3, 4}, offered(t, st))
	assert.NoDirExists(t, filepath.Join(dir, "v1"))
	assert.Contains(t, read(t, dir, distfile.FileName), "|2\nv3: ")
}

func TestOurNameOfAShardComesBeforeTheOther(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	write(t, dir, "v1/shard_00001.bin", "other")
	text, err := shardText(st, 1, 1)
	require.NoError(t, err)
	assert.Equal(t, "other", text)
	// What was retired under the same number is of another file.
	write(t, dir, ".shardcast/retired/v1/shard_001.bin", "retired")
	text, err = shardText(st, 1, 1)
	require.NoError(t, err)
	assert.Equal(t, "other", text)
	write(t, dir, "v1/shard_001.bin", "ours")
	text, err = shardText(st, 1, 1)
	require.NoError(t, err)
	assert.Equal(t, "ours", text)
}

func TestForeignAndRetiredVersionsAreNotHeld(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	write(t, dir, "v1", "a file")
	require.NoError(t, os.Symlink(t.TempDir(), filepath.Join(dir, "v2")))
	write(t, dir, ".shardcast/retired/v3/shard_001.bin", "retired")
	for v := shard.Version(1); v <= 3; v++ {
		assert.False(t, st.Holds(v), v)
	}
}

// As when a middle takes over the directory of a Python one.
func TestDraftTakesOverAShardByItsOtherName(t *testing.T) {
	dir := copyPython(t)
	part := read(t, dir, "v1/shard_00002.bin")
	st := open(t, dir, store.Middle)
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Reopen(1)) })
	d, err := st.Draft(1)
	require.NoError(t, err)
	for range 2 {
		f, err := d.Open(2, int64(len(part)))
		require.NoError(t, err)
		require.NoError(t, f.Close())
		assert.Equal(t, part, read(t, dir, ".shardcast/drafts/v1/shard_002.bin"))
		assert.NoFileExists(t, filepath.Join(dir, ".shardcast/drafts/v1/shard_00002.bin"))
	}

	write(t, dir, ".shardcast/drafts/v1/shard_001.bin", "ours")
	f, err := d.Open(1, 4)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	assert.Equal(t, "ours", read(t, dir, ".shardcast/drafts/v1/shard_001.bin"))

	outside := t.TempDir()
	write(t, outside, "file", "outside")
	link := filepath.Join(dir, ".shardcast/drafts/v1/shard_00004.bin")
	require.NoError(t, os.Symlink(filepath.Join(outside, "file"), link))
	f, err = d.Open(4, 100)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	assert.Empty(t, read(t, dir, ".shardcast/drafts/v1/shard_004.bin"))
}
