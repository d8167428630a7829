package store_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

func TestVersionIsPublishedWithSumsThatCanBeChecked(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Middle)
	write(t, dir, ".shardcast/drafts/v1/SHA256SUMS", "of another file")
	write(t, dir, ".shardcast/drafts/v1/SHA256SUMS.part", "half written")
	d, m := draft(t, st, 1, textOf(1))
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Publish(d, m)) })
	assert.Equal(t, string(shard.SHA256SUMS(m.Shards)), read(t, dir, "v1/SHA256SUMS"))
	if program, err := exec.LookPath("sha256sum"); err == nil {
		check := exec.Command(program, "-c", "--strict", "SHA256SUMS")
		check.Dir = filepath.Join(dir, "v1")
		out, err := check.CombinedOutput()
		require.NoError(t, err, string(out))
	}

	// They go with the version, and are made anew when it comes back.
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Reopen(1)) })
	d, m = draft(t, st, 1, "another file")
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Publish(d, m)) })
	assert.Equal(t, string(shard.SHA256SUMS(m.Shards)), read(t, dir, "v1/SHA256SUMS"))
}
