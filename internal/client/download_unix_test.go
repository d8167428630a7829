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

func TestDownloadFollowsNoLinkOfAnotherUserWhereAllMayWrite(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root makes files of another user")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o777|os.ModeSticky))
	victim, path := filepath.Join(t.TempDir(), "victim"), filepath.Join(dir, "out")
	require.NoError(t, os.Symlink(victim, path))
	require.NoError(t, os.Lchown(path, 65534, 65534))
	c := newClient(t, newSite(t, content(1, 10)))
	_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Path: path})
	require.ErrorContains(t, err, "another user's symbolic link")
	require.NoFileExists(t, victim)
}
