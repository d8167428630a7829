//go:build unix

package origin_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestBroadcastDoesNotWaitForAPipe(t *testing.T) {
	st := open(t, t.TempDir())
	path := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, unix.Mkfifo(path, 0o600))
	_, err := newOrigin(st, 3).Broadcast(t.Context(), path)
	require.ErrorContains(t, err, "neither a regular file nor a directory")
	assertNothing(t, st)
}
