package store_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

func TestSumsNameEachShard(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	var digests []shard.Digest
	for _, hex := range []string{a, b} {
		d, err := shard.ParseDigest(hex)
		require.NoError(t, err)
		digests = append(digests, d)
	}
	assert.Equal(t, a+"  shard_001.bin\n"+b+"  shard_002.bin\n", string(store.Sums(digests)))
	assert.Empty(t, store.Sums(nil))
	lines := strings.Split(string(store.Sums(make([]shard.Digest, 1000))), "\n")
	assert.True(t, strings.HasSuffix(lines[999], "  shard_1000.bin"))
}

func TestVersionIsPublishedWithSumsThatCanBeChecked(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Middle)
	write(t, dir, ".shardcast/drafts/v1/SHA256SUMS", "of another file")
	write(t, dir, ".shardcast/drafts/v1/SHA256SUMS.part", "half written")
	d, m := draft(t, st, 1, textOf(1))
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Publish(d, m, 5)) })
	assert.Equal(t, string(store.Sums(m.Shards)), read(t, dir, "v1/SHA256SUMS"))
	if program, err := exec.LookPath("sha256sum"); err == nil {
		check := exec.Command(program, "-c", "--strict", "SHA256SUMS")
		check.Dir = filepath.Join(dir, "v1")
		out, err := check.CombinedOutput()
		require.NoError(t, err, string(out))
	}

	// They go with the version, and are made anew when it comes back.
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Withdraw(1)) })
	d, m = draft(t, st, 1, "another file")
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Publish(d, m, 5)) })
	assert.Equal(t, string(store.Sums(m.Shards)), read(t, dir, "v1/SHA256SUMS"))
}
