package disk_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
)

// many makes files in a directory, more than are read at once, and returns it with their paths.
func many(t *testing.T) (root *os.Root, names []string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700))
	names = []string{"a", "a/b", "a/b/c"}
	for i := range 2500 {
		names = append(names, fmt.Sprintf("%04d", i))
	}
	for _, name := range names[2:] {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, root.Close()) })
	slices.Sort(names)
	return root, names
}

func TestAWalkVisitsAllThatIsInADirectory(t *testing.T) {
	root, want := many(t)
	var got []string
	require.NoError(t, disk.Walk(root, ".", func(name string, entry fs.DirEntry, err error) error {
		assert.Equal(t, filepath.Base(name), entry.Name())
		got = append(got, name)
		return err
	}))
	slices.Sort(got)
	assert.Equal(t, want, got)
}

func TestAWalkLeavesOutADirectoryAndEndsEarly(t *testing.T) {
	root, _ := many(t)
	visits := 0
	require.NoError(t, disk.Walk(root, "a", func(name string, _ fs.DirEntry, err error) error {
		require.NoError(t, err)
		assert.Equal(t, "a/b", name)
		visits++
		return fs.SkipDir
	}))
	assert.Equal(t, 1, visits)
	require.NoError(t, disk.Walk(root, ".", func(string, fs.DirEntry, error) error {
		visits++
		return fs.SkipAll
	}))
	assert.Equal(t, 2, visits)
}

func TestAWalkSaysWhatItCannotRead(t *testing.T) {
	root, _ := many(t)
	err := disk.Walk(root, "missing", func(name string, entry fs.DirEntry, err error) error {
		assert.Equal(t, "missing", name)
		assert.Nil(t, entry)
		return err
	})
	require.ErrorIs(t, err, fs.ErrNotExist)
}
