//go:build unix

package cli_test

import (
	"crypto/x509"
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
	var roots *x509.CertPool
	require.ErrorContains(t, cli.NewRoots(&roots).Set(pipe), "want a file with certificates")
	var credentials map[string]*url.Userinfo
	require.ErrorContains(t, cli.NewNetrc(&credentials).Set(pipe), "it is not a regular file")
}

func TestCertificatesWithoutEndAreRefused(t *testing.T) {
	var roots *x509.CertPool
	require.ErrorContains(t, cli.NewRoots(&roots).Set("/dev/zero"), "want a file with certificates")
}
