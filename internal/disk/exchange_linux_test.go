package disk_test

import (
	"io/fs"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
)

func TestTwoDirectoriesTakeEachOthersNames(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	defer root.Close()
	for _, name := range []string{"old", "part/new"} {
		require.NoError(t, root.MkdirAll(name, 0o755))
		require.NoError(t, root.WriteFile(name+"/who", []byte(name), 0o600))
	}
	require.NoError(t, disk.Exchange(root, "part/new", "old"))
	for name, want := range map[string]string{"old": "part/new", "part/new": "old"} {
		text, err := root.ReadFile(name + "/who")
		require.NoError(t, err)
		assert.Equal(t, want, string(text))
	}
	require.ErrorIs(t, disk.Exchange(root, "old", "missing"), fs.ErrNotExist)
}
