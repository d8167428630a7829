//go:build unix

package cmd_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// installed are the files of make install below PREFIX.
const installed = `
-rwxr-xr-x bin/shardcast-client
-rwxr-xr-x bin/shardcast-middle
-rwxr-xr-x bin/shardcast-origin
-rw-r--r-- share/bash-completion/completions/shardcast-client
-rw-r--r-- share/bash-completion/completions/shardcast-middle
-rw-r--r-- share/bash-completion/completions/shardcast-origin
-rw-r--r-- share/doc/shardcast/completions/shardcast-client.powershell
-rw-r--r-- share/doc/shardcast/completions/shardcast-middle.powershell
-rw-r--r-- share/doc/shardcast/completions/shardcast-origin.powershell
-rw-r--r-- share/fish/vendor_completions.d/shardcast-client.fish
-rw-r--r-- share/fish/vendor_completions.d/shardcast-middle.fish
-rw-r--r-- share/fish/vendor_completions.d/shardcast-origin.fish
-rw-r--r-- share/man/man1/shardcast-client-follow.1
-rw-r--r-- share/man/man1/shardcast-client-verify.1
-rw-r--r-- share/man/man1/shardcast-client-version.1
-rw-r--r-- share/man/man1/shardcast-client.1
-rw-r--r-- share/man/man1/shardcast-middle-version.1
-rw-r--r-- share/man/man1/shardcast-middle.1
-rw-r--r-- share/man/man1/shardcast-origin-broadcast.1
-rw-r--r-- share/man/man1/shardcast-origin-config.1
-rw-r--r-- share/man/man1/shardcast-origin-export.1
-rw-r--r-- share/man/man1/shardcast-origin-keygen.1
-rw-r--r-- share/man/man1/shardcast-origin-list.1
-rw-r--r-- share/man/man1/shardcast-origin-new-run.1
-rw-r--r-- share/man/man1/shardcast-origin-pin.1
-rw-r--r-- share/man/man1/shardcast-origin-republish.1
-rw-r--r-- share/man/man1/shardcast-origin-sign.1
-rw-r--r-- share/man/man1/shardcast-origin-unpin.1
-rw-r--r-- share/man/man1/shardcast-origin-verify.1
-rw-r--r-- share/man/man1/shardcast-origin-version.1
-rw-r--r-- share/man/man1/shardcast-origin-withdraw.1
-rw-r--r-- share/man/man1/shardcast-origin.1
-rw-r--r-- share/zsh/site-functions/_shardcast-client
-rw-r--r-- share/zsh/site-functions/_shardcast-middle
-rw-r--r-- share/zsh/site-functions/_shardcast-origin
`

// files lists the files below dir with their modes, and asserts that everyone may read its
// directories.
func files(t *testing.T, dir string) string {
	t.Helper()
	lines := []string{""}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if d.IsDir() {
			assert.Equal(t, fs.FileMode(0o755), info.Mode().Perm(), name)
			return err
		}
		lines = append(lines, info.Mode().String()+" "+name)
		return err
	}))
	return strings.Join(append(lines, ""), "\n")
}

// TestInstallPutsAllBelowPrefixAndTouchesNothingElse installs from the sources alone, as an
// archive has them, beside a foreign file.
func TestInstallPutsAllBelowPrefixAndTouchesNothingElse(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("make is not installed")
	}
	source, staged := t.TempDir(), filepath.Join(t.TempDir(), "a root")
	for _, name := range []string{"cmd", "internal"} {
		require.NoError(t, os.CopyFS(filepath.Join(source, name), os.DirFS(filepath.Join("..", name))))
	}
	top, err := filepath.Glob("../*.go")
	require.NoError(t, err)
	for _, name := range append(top, "../go.mod", "../go.sum", "../Makefile") {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(source, filepath.Base(name)), data, 0o644))
	}
	before, err := filepath.Glob(filepath.Join(source, "*"))
	require.NoError(t, err)
	prefix := filepath.Join(staged, "opt", "our casts")
	foreign := filepath.Join(prefix, "bin", "foreign")
	require.NoError(t, os.MkdirAll(filepath.Dir(foreign), 0o755))
	require.NoError(t, os.WriteFile(foreign, []byte("foreign"), 0o600))

	// The second time over the files of the first, and for everyone despite the umask.
	for range 2 {
		install := exec.Command(
			"sh",
			"-c",
			`umask 077; exec make -s install DESTDIR="$1" PREFIX="/opt/our casts"`,
			"sh",
			staged,
		)
		install.Dir = source
		out, err := install.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}

	data, err := os.ReadFile(foreign)
	require.NoError(t, err)
	assert.Equal(t, "foreign", string(data))
	info, err := os.Stat(foreign)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode())
	require.NoError(t, os.Remove(foreign))
	assert.Equal(t, installed, files(t, prefix))
	assert.Equal(t, strings.ReplaceAll(installed, " ", " opt/our casts/"), files(t, staged))
	after, err := filepath.Glob(filepath.Join(source, "*"))
	require.NoError(t, err)
	assert.ElementsMatch(t, append(before, filepath.Join(source, "bin"), filepath.Join(source, "build")), after)

	for _, command := range []string{"shardcast-origin", "shardcast-middle", "shardcast-client"} {
		out, err := exec.Command(filepath.Join(prefix, "bin", command), "version").CombinedOutput()
		require.NoError(t, err, "%s", out)
		assert.True(t, strings.HasPrefix(string(out), command+" "), "%s", out)
		for name, has := range map[string]string{
			"share/man/man1/" + command + ".1":                     `.TH "` + strings.ToUpper(command) + `" "1"`,
			"share/bash-completion/completions/" + command:         "complete -o default -F __start_" + command,
			"share/zsh/site-functions/_" + command:                 "#compdef " + command,
			"share/fish/vendor_completions.d/" + command + ".fish": "complete -c " + command,
		} {
			data, err := os.ReadFile(filepath.Join(prefix, name))
			require.NoError(t, err)
			assert.Contains(t, string(data), has, name)
		}
		data, err := os.ReadFile(filepath.Join(prefix, "share/man/man1", command+".1"))
		require.NoError(t, err)
		page := string(data)
		for _, has := range []string{
			".SH OPTIONS\n.SS What to ", ".SS Expert\n", ".SH EXIT STATUS\n",
			".SH ENVIRONMENT\n", ".SH FILES\n", ".SH SEE ALSO\n",
			`\fBSHARDCAST_LOG_LEVEL\fP`, `.shardcast`,
		} {
			assert.Contains(t, page, has, command)
		}
	}
}
