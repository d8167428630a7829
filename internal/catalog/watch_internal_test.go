package catalog

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/release"
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
	assert.False(t, g.fresh(look(st.StatDistribution())), "there was none before")
	write("one")
	assert.True(t, g.fresh(look(st.StatDistribution())), "it is new")
	assert.True(t, g.fresh(look(st.StatDistribution())), "it has just been new")
	g.since = g.since.Add(-settleTime)
	assert.False(t, g.fresh(look(st.StatDistribution())))
	write("two")
	assert.True(t, g.fresh(look(st.StatDistribution())), "it is new")
	g.since = g.since.Add(-settleTime)
	require.NoError(t, os.Remove(name))
	assert.True(t, g.fresh(look(st.StatDistribution())), "it has gone")
	g.since = g.since.Add(-settleTime)
	assert.False(t, g.fresh(look(st.StatDistribution())))
}

func TestASettledReleaseIsReadOnceMore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, err := store.Open(dir, store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	c := New(st, nil)
	name := filepath.Join(dir, release.FileName)
	at := time.Unix(1, 0)
	for i, step := range []struct {
		text, want string
		settle     bool
	}{
		{"one", "one", false},
		{"two", "two", true}, // written before it had settled, and first read after that
		{"six", "two", true}, // no program writes into a file that was renamed into its place
	} {
		require.NoError(t, os.WriteFile(name, []byte(step.text), 0o600))
		require.NoError(t, os.Chtimes(name, at, at))
		if step.settle {
			c.releases.seen.since = c.releases.seen.since.Add(-settleTime)
		}
		got, err := c.Release()
		require.NoError(t, err)
		assert.Equal(t, step.want, string(got.Text), "step %d", i)
	}
}
