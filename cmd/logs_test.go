//go:build linux

package cmd_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// published returns a data directory with a version of fifty shards.
func published(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "file.bin")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("weights.", 6_400)), 0o600))
	data := filepath.Join(dir, "data")
	out, err := command(t.Context(), t, "shardcast-origin", "broadcast", file, "--data-dir", data,
		"--shard-size", "1KiB", "--log-level", "WARNING").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return data
}

// serve starts cmd, a server whose stderr is log, and returns its address.
func serve(t *testing.T, cmd *exec.Cmd, log io.Reader) string {
	t.Helper()
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if found := regexp.MustCompile(`msg=listening addr=(\S+)`).FindStringSubmatch(lines.Text()); found != nil {
			return found[1]
		}
	}
	require.Fail(t, "no server listens")
	return ""
}

// asks sends count requests for path, with two kilobytes in the access log each, and returns the
// last answer.
func asks(t *testing.T, address, path string, count int) (text string) {
	t.Helper()
	for range count {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
		require.NoError(t, err)
		req.Header.Set("User-Agent", strings.Repeat("x", 2000))
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		text = string(body)
	}
	return text
}

// small makes pipe one that holds a few lines, on Linux.
func small(t *testing.T, pipe any) {
	t.Helper()
	file, ok := pipe.(*os.File)
	require.True(t, ok)
	_, err := unix.FcntlInt(file.Fd(), unix.F_SETPIPE_SZ, 4096)
	require.NoError(t, err)
}

func TestAReaderOfALogThatStopsHoldsUpNoServer(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := command(ctx, t, "shardcast-origin", "--data-dir", published(t), "--host", "127.0.0.1", "--port", "0",
		"--log-level", "DEBUG", "--access-log", "-")
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	_, err = cmd.StdoutPipe() // of which nothing is read
	require.NoError(t, err)
	address := serve(t, cmd, stderr)
	asks(t, address, "/healthz", 1000)
	assert.Regexp(t, `(?m)^shardcast_log_lines_dropped_total [1-9]`, asks(t, address, "/metrics", 1))
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	state, err := cmd.Process.Wait()
	require.NoError(t, err)
	assert.Zero(t, exitCode(state), "the end waits for no reader")
}

func TestDroppedLinesOfALogAreCountedInIt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	fifo := filepath.Join(t.TempDir(), "access.log")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	reader, err := os.OpenFile(fifo, os.O_RDWR, 0)
	require.NoError(t, err)
	defer reader.Close()
	cmd := command(ctx, t, "shardcast-origin", "--data-dir", published(t), "--host", "127.0.0.1", "--port", "0",
		"--access-log", fifo)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	address := serve(t, cmd, stderr)
	asks(t, address, "/healthz", 1000)
	go func() { _, _ = io.Copy(io.Discard, reader) }() // and now it reads
	log, err := bufio.NewReader(stderr), error(nil)
	for line := ""; !strings.Contains(line, `msg="access log lines dropped"`); {
		line, err = log.ReadString('\n')
		require.NoError(t, err)
	}
	asks(t, address, "/healthz", 1)
}

func TestTheEndOfAReaderOfALogEndsNoServer(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	data := published(t)
	var upstream string
	for _, args := range [][]string{
		{"shardcast-origin", "--data-dir", data},
		{"shardcast-middle", "--upstream", "UPSTREAM", "--data-dir", filepath.Join(t.TempDir(), "middle")},
	} {
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "UPSTREAM", upstream)
		}
		cmd := command(ctx, t, args[0], append(args[1:], "--host", "127.0.0.1", "--port", "0", "--log-level", "DEBUG",
			"--access-log", "-")...)
		stderr, err := cmd.StderrPipe()
		require.NoError(t, err)
		stdout, err := cmd.StdoutPipe()
		require.NoError(t, err)
		upstream = serve(t, cmd, stderr)
		require.NoError(t, stderr.Close())
		require.NoError(t, stdout.Close())
		asks(t, upstream, "/healthz", 100)
		require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
		asks(t, upstream, "/healthz", 100)
		defer func() {
			require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			state, err := cmd.Process.Wait()
			require.NoError(t, err)
			assert.Zero(t, exitCode(state))
		}()
	}
}

func TestAReaderOfALogThatStopsHoldsUpNoFetch(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := command(ctx, t, "shardcast-origin", "--data-dir", published(t), "--host", "127.0.0.1", "--port", "0")
	log, err := cmd.StderrPipe()
	require.NoError(t, err)
	address := serve(t, cmd, log)
	for _, mode := range []string{"plain", "json"} {
		client := command(ctx, t, "shardcast-client", "--servers", address, "--version", "v1", "--progress", mode,
			"--log-level", "DEBUG")
		stderr, err := client.StderrPipe() // of which nothing is read
		require.NoError(t, err)
		small(t, stderr)
		out, err := client.Output()
		require.NoError(t, err, mode)
		assert.Equal(t, fmt.Sprintln("downloads/download_v1.bin"), string(out))
	}
}
