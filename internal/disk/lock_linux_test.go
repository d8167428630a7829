package disk_test

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shardcast/shardcast/internal/disk"
)

// A file that another download renames between opening and locking is complete: a lock on it
// does not protect the new file of that name. A lease delays the opening until the rename.
func TestALockIsOnTheFileThatHasTheName(t *testing.T) {
	opening := make(chan os.Signal, 1)
	signal.Notify(opening, unix.SIGIO)
	defer signal.Stop(opening)
	dir, root := newRoot(t)
	name := filepath.Join(dir, "partial")
	theirs, err := os.Create(name)
	require.NoError(t, err)
	if _, err := unix.FcntlInt(theirs.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		require.NoError(t, theirs.Close())
		t.Skipf("no leases here: %v", err)
	}
	type locked struct {
		lock *os.File
		err  error
	}
	done := make(chan locked)
	go func() {
		lock, err := disk.Lock(context.Background(), root, "partial")
		done <- locked{lock, err}
	}()
	<-opening
	assert.NoError(t, os.Rename(name, name+" no more"))
	assert.NoError(t, theirs.Close()) // and the lease with it
	got := <-done
	require.NoError(t, got.err)
	defer func() { assert.NoError(t, got.lock.Close()) }()
	ours, err := got.lock.Stat()
	require.NoError(t, err)
	named, err := os.Stat(name)
	require.NoError(t, err, "there is a new file")
	assert.True(t, os.SameFile(ours, named), "another one is locked")
}
