package record

import (
	"cmp"
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
)

// A record that is accepted names files below the output directory alone.
func FuzzRecord(f *testing.F) {
	for _, text := range []string{
		"", "{}", "null", "[]", `{"last":1e30}`, `{"held":[{"version":1,"path":"../x"}]}`, `{"begun":{"path":"a"}}`,
		`{"last":1,"known":[{"version":1,"digest":"00"}],"held":[{"version":1,"path":"v1/a","marker":"v1/stable"}]}`,
		`{"last":2,"over":true,"held":[],"dirs":["v1"],"link":"latest"}`, `{"dirs":["a/../../b"]}`, `{"link":"/"}`,
		`{"begun":{"version":3,"manifest":{"size":-1,"shard_size":0,"date":"x"},"shard_count":-5,"path":"a"}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parse(text)
		if err != nil {
			require.Equal(t, Record{}, r)
			return
		}
		for _, file := range r.Files() {
			for _, path := range []string{file.Path, cmp.Or(file.Marker, file.Path)} {
				require.True(t, filepath.IsLocal(path) && filepath.Clean(path) == path && path != ".", path)
			}
		}
		for _, path := range append(slices.Clone(r.Dirs), cmp.Or(r.Link, "latest")) {
			require.True(t, filepath.IsLocal(path) && filepath.Clean(path) == path && path != ".", path)
		}
		// It can be written, and is the same then.
		written, err := json.Marshal(r)
		require.NoError(t, err)
		again, err := parse(written)
		require.NoError(t, err)
		twice, err := json.Marshal(again)
		require.NoError(t, err)
		require.JSONEq(t, string(written), string(twice))
		r.Learn([]distfile.Entry{{Version: 1}})
		require.LessOrEqual(t, len(r.Known), maxKnown)
	})
}
