package catalog_test

import (
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/shard"
)

func TestTheReleaseIsThatOfTheMoment(t *testing.T) {
	w := newWorld(t)
	_, err := w.Release()
	require.ErrorIs(t, err, fs.ErrNotExist)
	name := filepath.Join(w.store.Dir(), "release.txt")
	for _, text := range []string{"one", "two", "", "three", "three"} {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		// Two writes within one tick of a file system's clock look the same.
		require.NoError(t, os.Chtimes(name, time.Unix(1, 0), time.Unix(1, 0)))
		got, err := w.Release()
		require.NoError(t, err)
		assert.Equal(t, text, string(got.Text))
		assert.Equal(t, shard.Digest(sha256.Sum256([]byte(text))), got.Digest)
	}
	require.NoError(t, os.Remove(name))
	_, err = w.Release()
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.Mkdir(name, 0o700))
	_, err = w.Release()
	require.Error(t, err)
	_, err = catalog.New(nil, w.board).Release()
	require.ErrorIs(t, err, fs.ErrNotExist)
}
