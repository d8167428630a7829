package store_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

func TestAWishForBLAKE3CountsForAWeek(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir, store.Origin)
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	assert.False(t, s.WantsBLAKE3())
	require.NoError(t, s.WantBLAKE3())
	assert.True(t, s.WantsBLAKE3())
	file := filepath.Join(dir, ".shardcast", "blake3")
	age := func(by time.Duration) {
		at := time.Now().Add(-by)
		require.NoError(t, os.Chtimes(file, at, at))
	}
	age(6 * 24 * time.Hour)
	assert.True(t, s.WantsBLAKE3())
	age(8 * 24 * time.Hour)
	assert.False(t, s.WantsBLAKE3())
	require.NoError(t, s.WantBLAKE3())
	assert.True(t, s.WantsBLAKE3())

	age(time.Minute)
	before, err := os.Stat(file)
	require.NoError(t, err)
	require.NoError(t, s.WantBLAKE3())
	after, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, before.ModTime(), after.ModTime(), "it is noted already")
}

func TestABLAKE3IsReadFromItsFileAlone(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir, store.Origin)
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	require.ErrorIs(t, s.SetBLAKE3(1, shard.Digest{1}), fs.ErrNotExist, "the version is gone")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "v1"), 0o755))
	_, err = s.BLAKE3(1)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, s.SetBLAKE3(1, shard.Digest{1}))
	got, err := s.BLAKE3(1)
	require.NoError(t, err)
	assert.Equal(t, shard.Digest{1}, got)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "v1", shard.BLAKE3Name), []byte("no"), 0o600))
	_, err = s.BLAKE3(1)
	require.ErrorIs(t, err, shard.ErrDigest)
}
