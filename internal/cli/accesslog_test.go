package cli_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/cli"
)

// openAccessLog opens the access log that args ask for.
func openAccessLog(t *testing.T, args ...string) (io.WriteCloser, error) {
	t.Helper()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	open := cli.AccessLogFlag(flags)
	require.NoError(t, flags.Parse(args))
	return open()
}

func TestAccessLogGoesOnAtTheEndOfATruncatedFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "access.log")
	require.NoError(t, os.WriteFile(name, []byte("before\n"), 0o600))
	write := func(line string) {
		log, err := openAccessLog(t, "--access-log", name)
		require.NoError(t, err)
		_, err = io.WriteString(log, line)
		require.NoError(t, err)
		require.NoError(t, log.Close())
	}
	has := func(want string) {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.Equal(t, want, string(text))
	}
	write("one\n")
	has("before\none\n")
	require.NoError(t, os.Truncate(name, 0)) // as copytruncate does
	write("two\n")
	has("two\n")
}

func TestNoAccessLogIsNone(t *testing.T) {
	log, err := openAccessLog(t)
	require.NoError(t, err)
	assert.Nil(t, log)

	_, err = openAccessLog(t, "--access-log", t.TempDir()+"/missing/access.log")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "--access-log: open ")
}
