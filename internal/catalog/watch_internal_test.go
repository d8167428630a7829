package catalog

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/store"
)

func TestSettledFileIsNotRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, err := store.Open(dir, store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	name := filepath.Join(dir, distfile.FileName)
	write := func(content string) {
		text := fmt.Appendf(nil, "v1: %x\n", sha256.Sum256([]byte(content)))
		require.NoError(t, os.WriteFile(name+".new", text, 0o644))
		require.NoError(t, os.Rename(name+".new", name))
	}
	var g glance
	assert.False(t, g.fresh(st), "there was none before")
	write("one")
	assert.True(t, g.fresh(st), "it is new")
	assert.True(t, g.fresh(st), "it has just been new")
	g.since = g.since.Add(-settleTime)
	assert.False(t, g.fresh(st))
	write("two")
	assert.True(t, g.fresh(st), "it is new")
	g.since = g.since.Add(-settleTime)
	require.NoError(t, os.Remove(name))
	assert.True(t, g.fresh(st), "it has gone")
	g.since = g.since.Add(-settleTime)
	assert.False(t, g.fresh(st))
}
