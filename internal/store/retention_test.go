package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/policy"
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
	_, _, err := st.Change(t.Context(), func(s *policy.Settings) { s.MaxVersions, s.MaxChain = 1, 3 })
	require.NoError(t, err)
	for v := shard.Version(1); v <= 5; v++ {
		labelled(t, st, v, "a", fmt.Sprint(uint64(v)), fmt.Sprint(uint64(v-1)))
	}
	requireWhole(t, st, 3, 4, 5)
	change(t, st, func(w *store.Writer) {
		err := w.Admit(map[string]string{"run": "a", "number": "6", "after": "5"})
		require.ErrorIs(t, err, policy.ErrLineage)
		require.ErrorContains(t, err, "number 4 of a chain, and max-chain allows 3;")
		require.NoError(t, w.Admit(map[string]string{"run": "a", "number": "6", "after": "3"}))
		require.NoError(t, w.Admit(nil))
	})
}

// A middle learns from no setting how long a chain its publisher has admitted.
func TestWithoutASettingALongChainIsKeptAndNotAdmitted(t *testing.T) {
	const length = policy.DefaultMaxChain + 6
	st := open(t, t.TempDir(), store.Middle)
	keeping(t, st, 1)
	var entries []distfile.Entry
	label := func(v shard.Version) map[string]string {
		return map[string]string{"run": "a", "number": fmt.Sprint(uint64(v)), "after": fmt.Sprint(uint64(v - 1))}
	}
	for v := shard.Version(1); v <= length; v++ {
		labelled(t, st, v, "a", fmt.Sprint(uint64(v)), fmt.Sprint(uint64(v-1)))
		entries = append(entries, distfile.Entry{Version: v})
	}
	assert.Len(t, offered(t, st), length)
	needed := policy.Settings{MaxVersions: 1}.Needs(entries, func(e distfile.Entry) (map[string]string, bool) {
		return label(e.Version), true
	})
	assert.Equal(t, entries[:length-1], needed)
	change(t, st, func(w *store.Writer) { require.ErrorIs(t, w.Admit(label(length+1)), policy.ErrLineage) })
}

func TestAVersionThatNeedsOneThatIsNotThereIsNotAdmitted(t *testing.T) {
	st := open(t, t.TempDir(), store.Origin)
	labelled(t, st, 1, "a", "1", "")
	change(t, st, func(w *store.Writer) {
		for _, need := range []map[string]string{
			{"run": "a", "number": "3", "after": "2"},
			{"run": "b", "number": "2", "after": "1"},
			{"number": "2", "after": "1"},
		} {
			err := w.Admit(need)
			require.ErrorIs(t, err, policy.ErrLineage)
			require.ErrorContains(t, err, "does not have")
		}
		require.NoError(t, w.Admit(map[string]string{"run": "a", "number": "2", "after": "1"}))
	})
}

func TestTheNewestVersionOfAPlaceIsFound(t *testing.T) {
	st := open(t, t.TempDir(), store.Origin)
	labelled(t, st, 1, "a", "1", "")
	labelled(t, st, 2, "b", "1", "")
	labelled(t, st, 3, "a", "1", "")
	labelled(t, st, 4, "", "", "")
	change(t, st, func(w *store.Writer) {
		for want, labels := range map[shard.Version]map[string]string{
			3: {"run": "a", "number": "1"},
			2: {"run": "b", "number": "1", "after": "7"},
			0: {"run": "a", "number": "2"},
		} {
			e, err := w.At(labels)
			require.NoError(t, err)
			assert.Equal(t, want, e.Version)
		}
		e, err := w.At(nil)
		require.NoError(t, err)
		assert.Zero(t, e, "a version without a number has no place")
	})
}

func TestANewRunRetiresTheVersionsOfOthersButForPinnedOnes(t *testing.T) {
	st := open(t, t.TempDir(), store.Origin)
	labelled(t, st, 1, "a", "1", "")
	labelled(t, st, 2, "", "1", "")
	labelled(t, st, 3, "", "", "")
	labelled(t, st, 4, "b", "1", "")
	labelled(t, st, 5, "a", "", "")
	labelled(t, st, 6, "a", "2", "1")
	require.NoError(t, st.Pin(t.Context(), 6))
	for range 2 {
		change(t, st, func(w *store.Writer) {
			pinned, err := w.NewRun("b")
			require.NoError(t, err)
			assert.Equal(t, []shard.Version{6}, pinned)
			require.ErrorIs(t, w.Admit(map[string]string{"run": "a"}), policy.ErrLineage)
			require.ErrorIs(t, w.Admit(map[string]string{"number": "1"}), policy.ErrLineage)
			require.NoError(t, w.Admit(map[string]string{"run": "b"}))
			require.NoError(t, w.Admit(map[string]string{"step": "1"}))
		})
		assert.Equal(t, []shard.Version{3, 4, 6}, offered(t, st))
	}
	settings, err := st.Settings()
	require.NoError(t, err)
	assert.Equal(t, "b", settings.Run)
	change(t, st, func(w *store.Writer) {
		next, err := w.Next()
		require.NoError(t, err)
		assert.EqualValues(t, 7, next, "numbers go on")
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
