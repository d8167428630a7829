//go:build unix

package hook

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hookIn returns a hook with command in a new directory, and that directory.
func hookIn(t *testing.T, command string) (Hook, string) {
	t.Helper()
	dir := t.TempDir()
	return Hook{
		Command: "cd '" + dir + "' || exit; " + command, Lock: filepath.Join(dir, "hidden", "hook.lock"),
		Logger: slog.New(slog.DiscardHandler), grace: 50 * time.Millisecond,
	}, dir
}

// appears waits until the file name exists.
func appears(t *testing.T, name string) {
	t.Helper()
	assert.Eventually(t, func() bool { _, err := os.Stat(name); return err == nil }, time.Minute, time.Millisecond)
}

func TestAHookHasItsSettingsAndNoneOfOurs(t *testing.T) {
	t.Setenv("IP_ADDR_LIST", "http://user:password@a")
	t.Setenv("SHARDCAST_NETRC", "/secret")
	t.Setenv("HOOK_TEST", "kept")
	h, dir := hookIn(t, `echo "$SHARDCAST_VERSION $IP_ADDR_LIST$SHARDCAST_NETRC$HOOK_TEST" > out`)
	require.NoError(t, h.Run(t.Context(), "SHARDCAST_VERSION=v7"))
	text, err := os.ReadFile(filepath.Join(dir, "out"))
	require.NoError(t, err)
	assert.Equal(t, "v7 kept\n", string(text))
	assert.NoFileExists(t, h.Lock)
}

func TestTheErrorOfAHookIsItsExitCode(t *testing.T) {
	h, _ := hookIn(t, "exit 3")
	require.EqualError(t, h.Run(t.Context()), "exit status 3")
}

func TestAHookThatIgnoresSIGTERMIsKilledWithItsChildren(t *testing.T) {
	cause := errors.New("the end")
	ctx, end := context.WithCancelCause(t.Context())
	h, dir := hookIn(t, `trap "" TERM; sh -c 'touch child; while :; do sleep 0.01; done' & wait; wait`)
	go func() {
		appears(t, filepath.Join(dir, "child"))
		end(cause)
	}()
	require.ErrorIs(t, h.Run(ctx), cause)
	assert.True(t, h.isOver(), "no process is left")
}

func TestTheEndWaitsForChildrenThatEndLaterThanTheirParent(t *testing.T) {
	ctx, end := context.WithCancelCause(t.Context())
	h, dir := hookIn(t, `trap "touch parent; exit" TERM; (trap "until test -e parent; do :; done; touch saved; exit" `+
		`TERM; touch child; while :; do sleep 0.01; done) & wait`)
	h.grace = time.Minute
	go func() {
		appears(t, filepath.Join(dir, "child"))
		end(nil)
	}()
	require.ErrorIs(t, h.Run(ctx), context.Canceled)
	assert.FileExists(t, filepath.Join(dir, "saved"))
}

func TestAHookHasATimeout(t *testing.T) {
	h, _ := hookIn(t, "sleep 1000")
	h.Timeout = 10 * time.Millisecond
	require.ErrorIs(t, h.Run(t.Context()), errTimeout)
}

func TestAHookWaitsForAnEarlierOneButNotForItsBackground(t *testing.T) {
	h, dir := hookIn(t, `(until test -e over; do sleep 0.01; done) & touch ran`)
	require.NoError(t, h.Run(t.Context()))
	require.NoError(t, h.Run(t.Context()), "the background of one that has ended runs on")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "over"), nil, 0o600))

	earlier, err := openLocked(h.Lock)
	require.NoError(t, err)
	require.NotNil(t, earlier)
	limited, cancel := context.WithTimeout(t.Context(), 2*poll)
	defer cancel()
	require.ErrorIs(t, h.Run(limited), context.DeadlineExceeded)
	require.NoError(t, earlier.Close())
	require.NoError(t, h.Run(t.Context()))
}

func TestALockIsNoLink(t *testing.T) {
	h, dir := hookIn(t, "touch ran")
	require.NoError(t, os.Mkdir(filepath.Dir(h.Lock), 0o700))
	require.NoError(t, os.Symlink(filepath.Join(dir, "victim"), h.Lock))
	require.Error(t, h.Run(t.Context()))
	assert.NoFileExists(t, filepath.Join(dir, "victim"))
	assert.NoFileExists(t, filepath.Join(dir, "ran"))
}
