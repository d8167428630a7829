//go:build linux || darwin

package disk_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
)

func TestAMarkedDirectoryIsKnownUnderAnyNameAndACopyIsNot(t *testing.T) {
	parent := t.TempDir()
	isMarked := func(name string) bool {
		root, err := os.OpenRoot(filepath.Join(parent, name))
		require.NoError(t, err)
		defer root.Close()
		return disk.IsMarked(root)
	}
	require.NoError(t, os.Mkdir(filepath.Join(parent, "one"), 0o755))
	assert.False(t, isMarked("one"))
	root, err := os.OpenRoot(filepath.Join(parent, "one"))
	require.NoError(t, err)
	err = disk.Mark(root)
	require.NoError(t, root.Close())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("the file system of the temporary directory has no extended attributes")
	}
	require.NoError(t, err)
	require.NoError(t, os.Rename(filepath.Join(parent, "one"), filepath.Join(parent, "two")))
	assert.True(t, isMarked("two"))
	if err := exec.CommandContext(t.Context(), "cp", "-a", filepath.Join(parent, "two"),
		filepath.Join(parent, "copy")).Run(); err == nil {
		assert.False(t, isMarked("copy"))
	}
}
