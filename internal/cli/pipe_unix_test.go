//go:build unix

package cli_test

import (
	"net/url"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/cli"
)

func TestAFlagsFileThatIsAPipeIsNotWaitedFor(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	var credentials map[string]*url.Userinfo
	require.ErrorContains(t, cli.NewNetrc(&credentials).Set(pipe), "it is not a regular file")
}
