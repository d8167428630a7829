package password_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/password"
)

// The terminal is tested with the commands.
func TestThePasswordIsTheFirstLineOfItsFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "password")
	for text, want := range map[string]string{
		"secret":                  "secret",
		"two words\n":             "two words",
		"of Windows\r\nother":     "of Windows",
		"":                        "",
		"\nsecret\n":              "",
		strings.Repeat("x", 5000): "",
	} {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		got, err := password.FromFile(name)
		assert.Equal(t, want, got)
		if want == "" {
			require.ErrorContains(t, err, name)
		} else {
			require.NoError(t, err)
		}
	}
	_, err := password.FromFile(name + ".missing")
	require.ErrorIs(t, err, os.ErrNotExist)
}
