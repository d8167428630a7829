package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/store"
)

func TestSpoiltSettingsAreNamedAndRetireNothing(t *testing.T) {
	for name, put := range map[string]func(t *testing.T, file string){
		"no text":          text(""),
		"no JSON":          text("max-versions: 3"),
		"null":             text("null"),
		"no number":        text("{}"),
		"a null number":    text(`{"max_versions":null}`),
		"none":             text(`{"max_versions":0}`),
		"too many":         text(`{"max_versions":10001}`),
		"a typo":           text(`{"max_versions":5,"max_version":1}`),
		"a negative chain": text(`{"max_versions":5,"max_chain":-1}`),
		"too many deltas":  text(`{"max_versions":5,"delta_bases":65}`),
		"a pin of none":    text(`{"max_versions":5,"pinned":[0]}`),
		"unsorted pins":    text(`{"max_versions":5,"pinned":[2,1]}`),
		"many pins":        text(`{"max_versions":10000,"pinned":[1]}`),
		"more text":        text(`{"max_versions":1} {}`),
		"a directory":      func(t *testing.T, file string) { require.NoError(t, os.Mkdir(file, 0o700)) },
		"a link out of the directory": func(t *testing.T, file string) {
			outside := filepath.Join(t.TempDir(), "settings.json")
			require.NoError(t, os.WriteFile(outside, []byte(`{"max_versions":1}`), 0o600))
			require.NoError(t, os.Symlink(outside, file))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := open(t, dir, store.Origin)
			for range 3 {
				publish(t, st, 5)
			}
			file := filepath.Join(dir, ".shardcast", "settings.json")
			require.NoError(t, os.Remove(file))
			put(t, file)
			d, m := draft(t, st, 4, textOf(4))
			change(t, st, func(w *store.Writer) {
				require.ErrorIs(t, w.Trim(), store.ErrSettings)
				err := w.Publish(d, m)
				require.ErrorIs(t, err, store.ErrSettings)
				assert.ErrorContains(t, err, file)
			})
			require.ErrorIs(t, st.Keep(t.Context(), 7), store.ErrSettings)
			requireWhole(t, st, 1, 2, 3)
		})
	}
}

// text returns a function that makes a file of text.
func text(text string) func(t *testing.T, file string) {
	return func(t *testing.T, file string) {
		t.Helper()
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
}
