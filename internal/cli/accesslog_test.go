//go:build unix

package cli_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/cli"
)

// openAccessLog opens what args say.
func openAccessLog(t *testing.T, logger *slog.Logger, args ...string) (cli.AccessLog, error) {
	t.Helper()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	open := cli.AccessLogFlag(flags)
	require.NoError(t, flags.Parse(args))
	return open(t.Context(), logger)
}

// journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) has(part string) func() bool {
	return func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		return bytes.Contains(j.text.Bytes(), []byte(part))
	}
}

func TestAccessLogIsOpenedAgainAtAHangup(t *testing.T) {
	name := filepath.Join(t.TempDir(), "access.log")
	require.NoError(t, os.WriteFile(name, []byte("before\n"), 0o600))
	log := new(journal)
	l, err := openAccessLog(t, slog.New(slog.NewTextHandler(log, nil)), "--access-log", name)
	require.NoError(t, err)
	_, err = l.Write([]byte("one\n"))
	require.NoError(t, err)
	require.NoError(t, os.Rename(name, name+".1"))
	_, err = l.Write([]byte("two\n"))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	require.Eventually(t, log.has("access log opened again"), 30*time.Second, time.Millisecond)
	_, err = l.Write([]byte("three\n"))
	require.NoError(t, err)

	// Where it cannot be opened again, it goes on where it was.
	require.NoError(t, os.Rename(name, name+".2"))
	require.NoError(t, os.Mkdir(name, 0o755))
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	require.Eventually(t, log.has("access log not opened again"), 30*time.Second, time.Millisecond)
	_, err = l.Write([]byte("four\n"))
	require.NoError(t, err)
	require.NoError(t, l.Close())

	first, err := os.ReadFile(name + ".1")
	require.NoError(t, err)
	second, err := os.ReadFile(name + ".2")
	require.NoError(t, err)
	assert.Equal(t, "before\none\ntwo\n", string(first))
	assert.Equal(t, "three\nfour\n", string(second))
	_, err = l.Write([]byte("five\n"))
	require.ErrorIs(t, err, os.ErrClosed)
}

func TestNoAccessLogIsNone(t *testing.T) {
	l, err := openAccessLog(t, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	assert.Nil(t, l.Writer)
	require.NoError(t, l.Close())

	l, err = openAccessLog(t, slog.New(slog.DiscardHandler), "--access-log", "-")
	require.NoError(t, err)
	assert.Equal(t, os.Stdout, l.Writer)
	require.NoError(t, l.Close())

	_, err = openAccessLog(t, slog.New(slog.DiscardHandler), "--access-log", t.TempDir()+"/missing/access.log")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "access log: open ")
}
