package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// labelled publishes v with the labels run, number and after, of which empty ones are left out.
func labelled(t tb, st *store.Store, v shard.Version, run, number, after string) {
	t.Helper()
	d, m := draft(t, st, v, textOf(v))
	m.Labels = make(map[string]string)
	for name, value := range map[string]string{"run": run, "number": number, "after": after} {
		if value != "" {
			m.Labels[name] = value
		}
	}
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Publish(d, m)) })
}

func TestVersionsThatOthersNeedStayAsLongAsThese(t *testing.T) {
	st := open(t, t.TempDir(), store.Origin)
	keeping(t, st, 2)
	labelled(t, st, 1, "a", "1", "")
	labelled(t, st, 2, "b", "1", "")
	labelled(t, st, 3, "a", "2", "1")
	labelled(t, st, 4, "a", "3", "2")
	requireWhole(t, st, 1, 3, 4)
	labelled(t, st, 5, "", "3", "2") // its own run has no number 2
	requireWhole(t, st, 1, 3, 4, 5)
	labelled(t, st, 6, "", "", "")
	requireWhole(t, st, 5, 6)
}

func TestAChainIsKeptUpToItsBoundAndNoLongerOneIsAdmitted(t *testing.T) {
	st := open(t, t.TempDir(), store.Origin)
	_, _, err := st.Change(t.Context(), func(s *store.Settings) { s.MaxVersions, s.MaxChain = 1, 3 })
	require.NoError(t, err)
	for v := shard.Version(1); v <= 5; v++ {
		labelled(t, st, v, "a", fmt.Sprint(v), fmt.Sprint(v-1))
	}
	requireWhole(t, st, 3, 4, 5)
	change(t, st, func(w *store.Writer) {
		require.ErrorIs(t, w.Admit(map[string]string{"run": "a", "after": "v5"}), store.ErrChain)
		require.NoError(t, w.Admit(map[string]string{"run": "b", "after": "v5"}))
		require.NoError(t, w.Admit(map[string]string{"run": "a", "after": "v3"}))
		require.NoError(t, w.Admit(nil))
	})
}

func TestPinnedVersionsStayBesideTheNewest(t *testing.T) {
	st := open(t, t.TempDir(), store.Origin)
	publish(t, st, 5)
	publish(t, st, 5)
	require.NoError(t, st.Pin(t.Context(), 1))
	require.NoError(t, st.Pin(t.Context(), 1))
	require.ErrorIs(t, st.Pin(t.Context(), 9), shard.ErrNoVersion)
	for range 3 {
		publish(t, st, 2)
	}
	requireWhole(t, st, 1, 4, 5)
	require.NoError(t, st.Unpin(t.Context(), 1))
	require.ErrorIs(t, st.Unpin(t.Context(), 1), shard.ErrNoVersion)
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Trim()) })
	requireWhole(t, st, 4, 5)
}

func TestARepublishedVersionHasTheSameFiles(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	publish(t, st, 5)
	change(t, st, func(w *store.Writer) {
		v, err := w.Republish(1)
		require.NoError(t, err)
		assert.EqualValues(t, 2, v)
		_, err = w.Republish(7)
		require.ErrorIs(t, err, shard.ErrNoVersion)
	})
	for _, name := range []string{"manifest.json", "shard_001.bin", "shard_003.bin"} {
		was, err := os.Stat(filepath.Join(dir, "v1", name))
		require.NoError(t, err)
		now, err := os.Stat(filepath.Join(dir, "v2", name))
		require.NoError(t, err)
		assert.True(t, os.SameFile(was, now), name)
	}
	assert.Equal(t, []shard.Version{1, 2}, offered(t, st))
}

func TestAFreshDirectoryNeedsWhatIsKeptElsewhere(t *testing.T) {
	label := func(run, number, after string) map[string]string {
		return map[string]string{"run": run, "number": number, "after": after}
	}
	all := []map[string]string{
		label("a", "1", ""), label("b", "1", ""), label("a", "2", "1"), label("a", "2", "1"), nil, label("a", "3", "2"),
		label("b", "2", "1"),
	}
	entries := make([]distfile.Entry, len(all))
	for i := range entries {
		entries[i] = distfile.Entry{Version: shard.Version(i + 1)}
	}
	unknown, asked := shard.Version(0), 0
	labels := func(e distfile.Entry) (map[string]string, bool) {
		asked++
		return all[e.Version-1], e.Version != unknown
	}
	settings := store.Settings{MaxVersions: 2}
	assert.Equal(t, []distfile.Entry{entries[0], entries[1], entries[3]}, settings.Needs(entries, labels))
	assert.LessOrEqual(t, asked, len(entries), "each is asked about once")
	settings.MaxChain = 2
	assert.Equal(t, []distfile.Entry{entries[1], entries[3]}, settings.Needs(entries, labels))
	unknown = 4
	assert.Empty(t, settings.Needs(entries, labels), "it may be the one that is needed")
	settings.MaxVersions, asked = 1, 0
	all[6] = nil
	assert.Empty(t, settings.Needs(entries, labels))
	assert.Equal(t, 1, asked, "of versions without labels no older one is asked about")
	settings.Pinned, unknown = []shard.Version{3}, 0
	assert.Equal(t, []distfile.Entry{entries[0]}, settings.Needs(entries, labels))
	assert.Empty(t, settings.Needs(nil, labels))
}
