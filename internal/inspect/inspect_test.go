package inspect_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/inspect"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signing"
	"github.com/shardcast/shardcast/internal/store"
)

// directory is a data directory with a signed version of two shards, and its key.
func directory(t *testing.T) (dir string, st *store.Store, key release.PrivateKey) {
	t.Helper()
	dir = t.TempDir()
	st, err := store.Open(dir, store.Origin)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, st.Close()) })
	key, err = release.GenerateKey()
	require.NoError(t, err)
	st.SignBy(signing.Options{Key: key, Feed: "feed"})
	w, err := st.Lock(t.Context())
	require.NoError(t, err)
	d, err := st.Draft(1)
	require.NoError(t, err)
	const text = "hello, world"
	m, err := shard.Cut(t.Context(), strings.NewReader(text),
		shard.Plan{Size: int64(len(text)), ShardSize: 7, Create: d.Create})
	require.NoError(t, err)
	m.Name = "hello.txt"
	require.NoError(t, w.Publish(d, m))
	require.NoError(t, w.Unlock())
	return dir, st, key
}

func TestWhatIsWrongOfAVersionIsNamed(t *testing.T) {
	t.Parallel()
	dir, st, _ := directory(t)
	entries, err := st.Distribution()
	require.NoError(t, err)
	m, wrong, err := inspect.Version(t.Context(), st, entries[0])
	require.NoError(t, err)
	assert.Empty(t, wrong)
	assert.Equal(t, "hello.txt", m.Name)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "v1", "shard_002.bin"), []byte("World"), 0o600))
	require.NoError(t, os.Remove(filepath.Join(dir, "v1", "shard_001.bin")))
	_, wrong, err = inspect.Version(t.Context(), st, entries[0])
	require.NoError(t, err)
	require.Len(t, wrong, 2)
	require.ErrorIs(t, wrong[0], os.ErrNotExist)
	require.ErrorIs(t, wrong[1], shard.ErrDigest)
}

func TestAReleaseIsComparedWithTheDirectory(t *testing.T) {
	t.Parallel()
	other, err := release.GenerateKey()
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		spoil func(dir string) error
		keys  func(key release.PrivateKey) []release.PublicKey
		want  string
	}{
		"right": {},
		"by one of its keys": {keys: func(key release.PrivateKey) []release.PublicKey {
			return []release.PublicKey{other.Public(), key.Public()}
		}},
		"by another key": {want: "the signature is wrong", keys: func(release.PrivateKey) []release.PublicKey {
			return []release.PublicKey{other.Public()}
		}},
		"another manifest": {want: "another one than the release states: manifest", spoil: func(dir string) error {
			name := filepath.Join(dir, "v1", "manifest.json")
			text, err := os.ReadFile(name)
			if err == nil {
				err = os.WriteFile(name, append([]byte(" "), text...), 0o600)
			}
			return err
		}},
		"no manifest": {want: "v1: ", spoil: func(dir string) error {
			return os.Remove(filepath.Join(dir, "v1", "manifest.json"))
		}},
		"no line of the distribution": {want: "distribution.txt lacks it", spoil: func(dir string) error {
			return os.Remove(filepath.Join(dir, "distribution.txt"))
		}},
		"no release": {spoil: func(dir string) error { return os.Remove(filepath.Join(dir, "release.txt")) }},
		"junk": {want: "wrong form", spoil: func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "release.txt"), []byte("junk"), 0o600)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, st, key := directory(t)
			if tc.spoil != nil {
				require.NoError(t, tc.spoil(dir))
			}
			var keys []release.PublicKey
			if tc.keys != nil {
				keys = tc.keys(key)
			}
			_, wrong, err := inspect.Release(st, keys)
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
