//go:build unix

package client_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shardcast/shardcast/internal/client"
)

func TestDownloadDoesNotReplaceAPipe(t *testing.T) {
	c := newClient(t, newSite(t, content(1, 10)))
	path := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, unix.Mkfifo(path, 0o600))
	_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Path: path})
	require.Error(t, err)
	info, err := os.Lstat(path)
	require.NoError(t, err)
	assert.Equal(t, os.ModeNamedPipe, info.Mode().Type())
}
