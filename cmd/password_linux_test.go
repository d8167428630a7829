package cmd_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// echoes reports whether the terminal shows what is typed.
func (term *terminal) echoes() bool {
	state, err := unix.IoctlGetTermios(int(term.keys.Fd()), unix.TCGETS)
	require.NoError(term.t, err)
	return state.Lflag&unix.ECHO != 0
}

// A person types a password: it is not shown, and after ^C the terminal echoes again.
func TestAPasswordIsAskedForOnTheTerminal(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	for name, tc := range map[string]struct {
		typed []string // after one another, each at a prompt
		code  int
		last  string
	}{
		"two that differ": {
			[]string{"s3same\n", "other\n"},
			1,
			`^shardcast-origin: the two passwords differ; or --no-password$`,
		},
		"an empty one": {
			[]string{"\n"}, 1, `the password is empty; or --no-password$`,
		},
		"the same twice": {
			[]string{"s3same\n", "s3same\n"}, 1, `publisher.pub exists already`,
		},
		"an interrupt": {
			[]string{"s3s\x03"}, 130, `^shardcast-origin: interrupted by SIGINT`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "publisher.pub"), nil, 0o600))
			term := newTerminal(t, 120)
			cmd := command(ctx, t, "shardcast-origin", "keygen", "--key-file", filepath.Join(dir, "publisher.key"))
			term.run(cmd)
			prompts := []string{"^Password of the private key: ", "^The same once more: "}
			for i, word := range tc.typed {
				term.await(prompts[i])
				require.Eventually(t, func() bool { return !term.echoes() }, patience, time.Millisecond)
				_, err := term.keys.WriteString(word)
				require.NoError(t, err)
			}
			_ = cmd.Wait() // its exit code says how
			assert.True(t, term.echoes())
			<-term.closed
			assert.Equal(t, tc.code, exitCode(cmd.ProcessState))
			screen := strings.Join(term.lines(), "\n")
			assert.NotContains(t, screen, "s3s")
			lines := strings.Split(strings.TrimRight(screen, "\n"), "\n")
			assert.Regexp(t, tc.last, lines[len(lines)-1])
			assert.NoFileExists(t, filepath.Join(dir, "publisher.key"))
		})
	}
}
