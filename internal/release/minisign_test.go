package release_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/release"
)

// TestMinisignVerifiesARelease checks a release as its readers can without us.
func TestMinisignVerifiesARelease(t *testing.T) {
	private := key(t, "other.key")
	signed, err := example().Sign(private)
	require.NoError(t, err)
	dir := t.TempDir()
	name := filepath.Join(dir, release.FileName)
	require.NoError(t, os.WriteFile(name, signed.Bytes(), 0o600))
	split := exec.Command("sh", "-c", "head -n -4 release.txt > r; tail -n 4 release.txt > r.minisig")
	split.Dir = dir
	require.NoError(t, split.Run())
	out := runMinisign(t, dir, "", "-HVm", "r", "-P", private.Public().String())
	assert.Contains(t, out, "Trusted comment: shardcast release feed=weights.example.org/llama-rl epoch=3 ")
}

// TestMinisignUsesOurKeys has it sign with keys that we have written, with a password and without.
func TestMinisignUsesOurKeys(t *testing.T) {
	if testing.Short() {
		t.Skip("deriving the key of a password takes seconds and 1 GiB")
	}
	dir := t.TempDir()
	private, err := release.GenerateKey()
	require.NoError(t, err)
	for name, password := range map[string]string{"open": "", "locked": "correct horse"} {
		public, err := release.WriteKeys(filepath.Join(dir, name+".key"), private, password)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "text"), []byte("signed by minisign\n"), 0o600))
		runMinisign(t, dir, password+"\n", "-S", "-s", name+".key", "-m", "text")
		runMinisign(t, dir, "", "-V", "-p", filepath.Base(public), "-m", "text")
	}
}

// runMinisign runs the program of this name and returns its output.
func runMinisign(t *testing.T, dir, in string, args ...string) string {
	t.Helper()
	program, err := exec.LookPath("minisign")
	if err != nil {
		t.Skip("there is no minisign; see scripts/others")
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(in)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Run(), "%s: %s", strings.Join(args, " "), &out)
	return out.String()
}

// TestTheProtocolShowsTheGoldenFile keeps the documentation true, with the key that checks it.
func TestTheProtocolShowsTheGoldenFile(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocol.md"))
	require.NoError(t, err)
	assert.Contains(t, string(text), string(read(t, "release.txt")))
	assert.Contains(t, string(text), "minisign -HVm r -P "+key(t, "minisign.key").Public().String()+"\n")
}
