package inspect_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/inspect"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// withDelta is a data directory of v2, with a delta from v1 of two shards.
func withDelta(t *testing.T, change func(*shard.DeltaManifest)) (dir string, st *store.Store) {
	t.Helper()
	dir = t.TempDir()
	st, err := store.Open(dir, store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	d, err := st.Draft(2)
	require.NoError(t, err)
	m, err := shard.Cut(t.Context(), strings.NewReader("hello, world, once more"),
		shard.Plan{Size: shard.UnknownSize, ShardSize: 7, Create: d.Create})
	require.NoError(t, err)
	delta, err := d.Delta(1)
	require.NoError(t, err)
	content, err := shard.Cut(t.Context(), strings.NewReader("once more"),
		shard.Plan{Size: shard.UnknownSize, ShardSize: 7, Create: delta.Create})
	require.NoError(t, err)
	of := shard.DeltaManifest{
		Format: shard.DeltaFormat, BaseDigest: shard.Digest{1}, TargetDigest: m.Digest,
		Size: content.Size, ShardSize: content.ShardSize, Digest: content.Digest, Shards: content.Shards,
	}
	change(&of)
	line, err := delta.EndDelta(of)
	require.NoError(t, err)
	m.Deltas = []shard.Delta{line}
	w, err := st.Lock(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.Publish(d, m))
	require.NoError(t, w.Unlock())
	return dir, st
}

func TestWhatIsWrongOfADeltaIsNamed(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*shard.DeltaManifest)
		spoil  func(delta string) error
		want   string
	}{
		"right":      {},
		"not here":   {spoil: os.RemoveAll},
		"of another": {change: func(m *shard.DeltaManifest) { m.TargetDigest[0]++ }, want: "it is of other versions"},
		"a shard": {
			spoil: func(delta string) error { return os.WriteFile(delta+"/shard_002.bin", []byte("xx"), 0o600) },
			want:  "v2/from_v1/shard_002.bin: shard 2: wrong digest",
		},
		"no shard": {
			spoil: func(delta string) error { return os.Remove(delta + "/shard_001.bin") },
			want:  "v2/from_v1/shard_001.bin: ",
		},
		"junk": {
			spoil: func(delta string) error { return os.WriteFile(delta+"/manifest.json", []byte("{"), 0o600) },
			want:  "v2/from_v1/manifest.json: bad manifest",
		},
		"another manifest": {
			spoil: func(delta string) error {
				text, err := os.ReadFile(delta + "/manifest.json")
				if err != nil {
					return err
				}
				return os.WriteFile(delta+"/manifest.json", append([]byte(" "), text...), 0o600)
			},
			want: "v2/from_v1/manifest.json: wrong digest",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.change == nil {
				tc.change = func(*shard.DeltaManifest) {}
			}
			dir, st := withDelta(t, tc.change)
			if tc.spoil != nil {
				require.NoError(t, tc.spoil(filepath.Join(dir, "v2", "from_v1")))
			}
			entries, err := st.Distribution()
			require.NoError(t, err)
			_, wrong, err := inspect.Version(t.Context(), st, entries[0])
			require.NoError(t, err)
			if tc.want == "" {
				assert.Empty(t, wrong)
				return
			}
			require.Len(t, wrong, 1)
			require.ErrorContains(t, wrong[0], tc.want)
		})
	}
}
