package disk_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
)

func TestAFileIsBeingWrittenUntilItIsClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weights")
	w, err := os.Create(path)
	require.NoError(t, err)
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	if !disk.BeingWritten(f) {
		t.Skip("this file system knows no leases")
	}
	require.NoError(t, w.Close())
	assert.False(t, disk.BeingWritten(f))
	w, err = os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err, "the lease is given back")
	assert.True(t, disk.BeingWritten(f))
	require.NoError(t, w.Close())
}
