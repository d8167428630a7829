//go:build darwin || linux

package disk

import (
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestADirectoryThatCannotBeSyncedIsNoFailure(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	defer root.Close()
	defer func(was func(*os.File) error) { syncDir = was }(syncDir)
	unsupported := []syscall.Errno{syscall.EINVAL, syscall.ENOTSUP, syscall.EOPNOTSUPP, syscall.ENOSYS}
	failed := []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EBADF}
	for _, failure := range slices.Concat(unsupported, failed) {
		syncDir = func(f *os.File) error { return &os.PathError{Op: "sync", Path: f.Name(), Err: failure} }
		err := WriteFile(root, "temp", "final", []byte("whole"), 0o600)
		if slices.Contains(unsupported, failure) {
			require.NoError(t, err, failure)
		} else {
			require.ErrorIs(t, err, failure)
		}
	}
	text, err := root.ReadFile("final")
	require.NoError(t, err)
	assert.Equal(t, "whole", string(text))
}

func TestAFileSystemWithoutLocksIsNamed(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	defer func(was func(int, int) error) { flock = was }(flock)
	for _, failure := range []syscall.Errno{syscall.ENOSYS, syscall.ENOTSUP, syscall.EOPNOTSUPP, syscall.ENOLCK} {
		flock = func(int, int) error { return failure }
		_, err := Lock(t.Context(), root, "lock")
		require.ErrorIs(t, err, failure)
		require.ErrorContains(t, err, "lock "+dir+"/lock: the file system has no locks")
		require.ErrorContains(t, err, "use a local directory")
	}
	interrupted := true
	flock = func(int, int) error {
		if interrupted {
			interrupted = false
			return syscall.EINTR
		}
		return nil
	}
	f, err := Lock(t.Context(), root, "lock")
	require.NoError(t, err)
	require.NoError(t, f.Close())
}
