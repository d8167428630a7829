//go:build unix

package disk_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
)

func TestReadFileReadsARegularFileOfSomeBytesAtMost(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("12345"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "directory"), 0o700))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))

	text, err := disk.ReadFile(root, "file", 5)
	require.NoError(t, err)
	assert.Equal(t, "12345", string(text))
	_, err = disk.ReadFile(root, "file", 4)
	require.ErrorContains(t, err, "file: it has more than 4 bytes")
	for _, name := range []string{"directory", "pipe"} {
		_, err := disk.ReadFile(root, name, 5)
		require.ErrorIs(t, err, disk.ErrForeign)
		require.ErrorContains(t, err, name)
	}
	_, err = disk.ReadFile(root, "missing", 5)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
