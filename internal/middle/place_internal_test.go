package middle

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/transfer"
	"github.com/shardcast/shardcast/internal/transfer/placetest"
)

func TestDraftIsAPlaceForShards(t *testing.T) {
	placetest.Test(t, placetest.Implementation{
		Open: func(t *testing.T, dir string, m shard.Manifest) (transfer.Sink, func()) {
			t.Helper()
			st, err := store.Open(dir, store.Middle)
			require.NoError(t, err)
			draft, err := st.Draft(1)
			require.NoError(t, err)
			entry := distfile.Entry{Version: 1, Digest: m.Digest}
			version := relay.NewBoard().Begin(entry, m, 1, relay.Files(draft.Read))
			a := arrival{draft: draft, version: version, syncs: newSyncs()}
			return a, func() { assert.NoError(t, errors.Join(a.synced(), st.Close())) }
		},
		File: func(dir string, s shard.Shard) (string, int64) {
			return filepath.Join(dir, ".shardcast", "drafts", "v1", shard.FileName(s.Number)), 0
		},
	})
}

// arrivalOf returns the arrival of version 1, with one shard of size bytes more than are
// held back from readers, and the file of that shard with the bytes of an earlier run.
func arrivalOf(t *testing.T, size int64, left []byte) (a arrival, file string) {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(dir, store.Middle)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, st.Close()) })
	draft, err := st.Draft(1)
	require.NoError(t, err)
	file = filepath.Join(dir, ".shardcast", "drafts", "v1", "shard_001.bin")
	require.NoError(t, os.WriteFile(file, left, 0o600))
	size += relay.HeldBack
	m := shard.Manifest{Size: size, ShardSize: size, Shards: make([]shard.Digest, 1)}
	version := relay.NewBoard().Begin(distfile.Entry{Version: 1}, m, 1, relay.Files(draft.Read))
	return arrival{draft: draft, version: version}, file
}

// open opens the shard.
func (a arrival) open(t *testing.T) (transfer.Place, *relay.Reader) {
	t.Helper()
	p, err := a.Open(a.version.Manifest.Shard(1))
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p, a.version.Shard(1).Reader()
}

func TestReadersGetTheBytesOfThisRunAlone(t *testing.T) {
	a, _ := arrivalOf(t, 100, make([]byte, 50))
	p, r := a.open(t)
	found, err := p.Written()
	require.NoError(t, err)
	assert.NotEmpty(t, found)
	assert.Zero(t, r.Ready(0), "no digest has confirmed the bytes of an earlier run")
	_, err = p.WriteAt([]byte("abc"), 10)
	require.NoError(t, err)
	assert.EqualValues(t, 3, r.Ready(10))
	got := make([]byte, 3)
	_, err = r.ReadAt(got, 10)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	assert.Equal(t, "abc", string(got))

	require.NoError(t, p.Close())
	_, err = p.WriteAt([]byte("abc"), 20)
	require.Error(t, err)
	assert.Zero(t, r.Ready(20), "the write failed")
}

func TestTheFileIsNoLongerThanTheShard(t *testing.T) {
	for name, tc := range map[string]struct{ left, want int64 }{
		"longer":  {relay.HeldBack + 200, relay.HeldBack + 100},
		"shorter": {50, 50},
	} {
		t.Run(name, func(t *testing.T) {
			a, file := arrivalOf(t, 100, make([]byte, tc.left))
			a.open(t)
			info, err := os.Stat(file)
			require.NoError(t, err)
			assert.Equal(t, tc.want, info.Size())
		})
	}
}

func TestAnOpenShardIsNotWanted(t *testing.T) {
	a, _ := arrivalOf(t, 100, nil)
	_, r := a.open(t)
	_, err := r.Await(t.Context(), 0, 0)
	require.ErrorIs(t, err, relay.ErrBroken)
	assert.Empty(t, a.version.Wanted())
}

func TestReadersLoseAWrongShardAndGetARightOneWhole(t *testing.T) {
	a, _ := arrivalOf(t, 100, nil)
	p, r := a.open(t)
	_, err := p.WriteAt(make([]byte, 100+relay.HeldBack), 0)
	require.NoError(t, err)
	assert.EqualValues(t, 100, r.Ready(0))
	a.version.Forget(1)
	assert.Zero(t, r.Ready(0))
	_, err = r.Await(t.Context(), 0, 0)
	require.ErrorIs(t, err, relay.ErrBroken)
	require.NoError(t, p.Commit())
	assert.EqualValues(t, 100+relay.HeldBack, a.version.Shard(1).Reader().Ready(0))
}

func TestAShardThatIsNotOnTheDiskFailsItsVersion(t *testing.T) {
	a, _ := arrivalOf(t, 100, nil)
	a.syncs = newSyncs()
	s := a.version.Manifest.Shard(1)
	f, err := a.draft.Open(s.Number, s.Size)
	require.NoError(t, err)
	p := &place{Part: f, shard: s, of: a}
	require.NoError(t, p.Commit())
	require.NoError(t, f.Close()) // so that it cannot be synced
	require.NoError(t, p.Close(), "no worker waits")
	assert.ErrorIs(t, a.synced(), os.ErrClosed)
}
