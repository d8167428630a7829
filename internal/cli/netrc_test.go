package cli_test

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/cli"
)

// netrc reads a file with text.
func netrc(t *testing.T, text string, mode os.FileMode) (map[string]*url.Userinfo, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "netrc")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	require.NoError(t, os.Chmod(name, mode))
	var credentials map[string]*url.Userinfo
	return credentials, cli.NewNetrc(&credentials).Set(name)
}

func TestNetrcHasCredentialsByMachine(t *testing.T) {
	name := filepath.Join(t.TempDir(), "netrc")
	require.NoError(t, os.WriteFile(name, []byte(`# for CI
machine Origin.example login ci password s3:cr@t
machine 10.0.0.1:8443
	login middle
	account none
	password "quoted"
machine origin.example login second password none
default login anyone password everywhere
macdef init
	machine in.a.macro login x password y
`), 0o600))
	var got map[string]*url.Userinfo
	n := cli.NewNetrc(&got)
	require.NoError(t, n.Set(name))
	assert.Equal(t, map[string]*url.Userinfo{
		"origin.example": url.UserPassword("ci", "s3:cr@t"),
		"10.0.0.1:8443":  url.UserPassword("middle", `"quoted"`),
	}, got)
	assert.Equal(t, name, n.String())
}

func TestNetrcIsForItsOwnerAlone(t *testing.T) {
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o666} {
		_, err := netrc(t, "machine a login b password c", mode)
		require.ErrorContains(t, err, "run chmod 600 ", mode)
	}
	_, err := netrc(t, "machine a login b password c", 0o400)
	require.NoError(t, err)
}

func TestNetrcRefusesOtherTexts(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":      "",
		"no machine":   "login ci password sesame",
		"default only": "default login ci password sesame",
		"no value":     "machine a login ci password sesame login",
		"another word": "machine a user ci password sesame",
		"a list":       "a:ci:sesame",
		"binary":       "\x00\xffsesame",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := netrc(t, text, 0o600)
			require.Error(t, err)
			assert.NotContains(t, err.Error(), "sesame")
		})
	}
	require.Error(t, cli.NewNetrc(new(map[string]*url.Userinfo)).Set(t.TempDir()), "a directory")
}
