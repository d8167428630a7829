//go:build unix

package cli_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shardcast/shardcast/internal/cli"
)

// passed returns the number of a descriptor of file as a parent passes it on.
func passed(t *testing.T, file *os.File) int {
	t.Helper()
	fd, err := unix.Dup(int(file.Fd())) // which is not closed on exec
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func TestChildrenDoNotInheritTheDescriptorOfTheReadyLine(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "ready")
	require.NoError(t, err)
	defer file.Close()
	fd := passed(t, file)
	c := newCommand(t, nil, func(context.Context) error {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		assert.Equal(t, unix.FD_CLOEXEC, flags)
		return err
	})
	cli.ReadyFlag(c.Flags(), "test", "when it listens")
	code, stderr := c.run(t, "--ready-fd", fmt.Sprint(fd))
	assert.Equal(t, cli.ExitDone, code, stderr)
}

func TestADescriptorOfTheProcessItselfGetsNoReadyLine(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "ready")
	require.NoError(t, err)
	defer file.Close()
	c := newCommand(t, nil, nil)
	cli.ReadyFlag(c.Flags(), "test", "when it listens")
	code, stderr := c.run(t, "--ready-fd", fmt.Sprint(file.Fd()))
	assert.Equal(t, cli.ExitUsage, code)
	assert.Contains(t, stderr, "no such file descriptor is open")
}

func TestAReadyLineWithoutAReaderEndsNoServer(t *testing.T) {
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	defer writer.Close()
	require.NoError(t, reader.Close())
	fd := passed(t, writer)
	var log strings.Builder
	c := newCommand(t, nil, nil)
	ready := cli.ReadyFlag(c.Flags(), "test", "when it listens")
	code, stderr := c.run(t, "--ready-fd", fmt.Sprint(fd))
	require.Equal(t, cli.ExitDone, code, stderr)
	ln, err := silent{}.Listen()
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	_, err = ready.Listener(ln, slog.New(slog.NewTextHandler(&log, nil))).Accept()
	require.Error(t, err, "the listener is closed")
	assert.Contains(t, log.String(), `msg="ready line not written"`)
}

func TestTheEndOfStdinEndsTheContext(t *testing.T) {
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	defer reader.Close()
	c := newCommand(t, nil, func(ctx context.Context) error {
		_, err := writer.WriteString("left aside\n")
		require.NoError(t, err)
		require.NoError(t, ctx.Err())
		require.NoError(t, writer.Close())
		<-ctx.Done()
		return context.Cause(ctx)
	})
	c.SetIn(reader)
	code, stderr := c.run(t, "--exit-with-stdin")
	assert.Equal(t, 143, code)
	assert.Equal(t, "test: interrupted by the end of stdin\n", stderr)
}
