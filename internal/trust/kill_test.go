package trust_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/trust"
)

// childKey names the file of the key in the environment of the process that is killed.
const childKey = "TRUST_TEST_KEY"

// TestAKilledProcessHasUsedNothingThatIsForgotten kills processes that take releases up, at any moment.
func TestAKilledProcessHasUsedNothingThatIsForgotten(t *testing.T) {
	dir := t.TempDir()
	private := newKey(t)
	name := filepath.Join(dir, "publisher.key")
	_, err := release.WriteKeys(name, private, "")
	require.NoError(t, err)
	highest := uint64(0)
	for range 10 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), childKey+"="+name)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for left := rand.IntN(50); left >= 0 && lines.Scan(); left-- {
			if seq, ok := strings.CutPrefix(lines.Text(), "used "); ok {
				highest, err = strconv.ParseUint(seq, 10, 64)
				require.NoError(t, err)
			}
		}
		require.NoError(t, cmd.Process.Kill())
		for lines.Scan() { // it may have used more before it died
			if seq, ok := strings.CutPrefix(lines.Text(), "used "); ok {
				if n, err := strconv.ParseUint(seq, 10, 64); err == nil { // and not died within the number
					highest = max(highest, n)
				}
			}
		}
		require.Error(t, cmd.Wait())
		newest, _ := openIn(t, filepath.Join(dir, "state"), private).Newest()
		require.GreaterOrEqual(t, newest.Release.Seq, highest)
	}
	require.Positive(t, highest)
}

// TestChild is the process that is killed: it takes releases up without an end, and says of each that
// it uses it.
func TestChild(t *testing.T) {
	name := os.Getenv(childKey)
	if name == "" {
		t.Skip("it is the child of another test")
	}
	private, err := release.ReadPrivateKey(name, func() (string, error) { return "", os.ErrInvalid })
	require.NoError(t, err)
	keeper, err := trust.Open(trust.Options{
		Keys: []release.PublicKey{private.Public()}, Feed: feed, Dir: "state",
	})
	require.NoError(t, err)
	newest, _ := keeper.Newest()
	for seq := newest.Release.Seq + 1; ; seq++ {
		if _, err := keeper.Offer(t.Context(), "http://a", sign(t, private, list(1, seq))); err != nil {
			t.Fatal(err)
		}
		used, _ := keeper.Newest()
		fmt.Println("used", used.Release.Seq)
	}
}
