package catalog_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const text = "0123456789abcdefghij"

// world is a data directory, and a board beside it.
type world struct {
	*catalog.Catalog

	store *store.Store
	board *relay.Board
}

func newWorld(t *testing.T) world {
	t.Helper()
	st, err := store.Open(t.TempDir(), store.Middle)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	board := relay.NewBoard()
	return world{catalog.New(st, board), st, board}
}

// publish publishes content as v, in shards of 10 bytes.
func (w world) publish(t *testing.T, v shard.Version, content string) shard.Manifest {
	t.Helper()
	d, err := w.store.Draft(v)
	require.NoError(t, err)
	m, err := shard.Cut(t.Context(), strings.NewReader(content),
		shard.Plan{Size: int64(len(content)), ShardSize: 10, Create: d.Create})
	require.NoError(t, err)
	writer, err := w.store.Lock(t.Context())
	require.NoError(t, err)
	require.NoError(t, writer.Publish(d, m))
	require.NoError(t, writer.Unlock())
	return m
}

// manifestOf describes content in shards of 10 bytes.
func manifestOf(content string) shard.Manifest {
	m := shard.Manifest{Size: int64(len(content)), ShardSize: 10, Digest: sha256.Sum256([]byte(content))}
	for part := range slices.Chunk([]byte(content), 10) {
		m.Shards = append(m.Shards, sha256.Sum256(part))
	}
	return m
}

// arrive puts content on offer as v, arriving over two servers, and lists it.
func (w world) arrive(t *testing.T, v shard.Version, content string) *relay.Version {
	t.Helper()
	name := filepath.Join(t.TempDir(), "shard")
	require.NoError(t, os.WriteFile(name, []byte(content[:10]), 0o600))
	m := manifestOf(content)
	e := distfile.Entry{Version: v, Digest: m.Digest}
	w.board.List(e)
	return w.board.Begin(e, m, 2, relay.Files(func(int) (*os.File, error) { return os.Open(name) }))
}

// kindOf is a shard as the catalog has it.
func (w world) kindOf(t *testing.T, v shard.Version, number int) string {
	t.Helper()
	s, err := w.Shard(v, number)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "missing"
	case errors.Is(err, catalog.ErrLater):
		return "later"
	}
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	if s.File == nil {
		assert.Equal(t, 2, s.Tier)
		assert.EqualValues(t, 10, s.Size)
		return "arriving"
	}
	content, err := io.ReadAll(s.File)
	require.NoError(t, err)
	if s.Digest != (shard.Digest{}) {
		assert.Equal(t, shard.Digest(sha256.Sum256(content)), s.Digest)
	}
	return string(content)
}

func TestAShardIsHeldOrArrivingOrNeither(t *testing.T) {
	w := newWorld(t)
	assert.Equal(t, "missing", w.kindOf(t, 1, 1))
	w.publish(t, 1, text)
	assert.Equal(t, text[10:], w.kindOf(t, 1, 2))
	assert.Equal(t, "missing", w.kindOf(t, 1, 3))

	v := w.arrive(t, 2, text)
	assert.Equal(t, "arriving", w.kindOf(t, 2, 1))
	assert.Equal(t, "missing", w.kindOf(t, 2, 3))
	v.Shard(1).Verify()
	assert.Equal(t, text[:10], w.kindOf(t, 2, 1))
	assert.Equal(t, "arriving", w.kindOf(t, 2, 2))
	v.End()
	assert.Equal(t, "later", w.kindOf(t, 2, 1), "it is on offer, and no fetch brings it")
	w.publish(t, 2, text)
	assert.Equal(t, "later", w.kindOf(t, 2, 1), "until it leaves the board")
	w.board.Unlist(2)
	assert.Equal(t, text[:10], w.kindOf(t, 2, 1))
}

func TestAnArrivingVersionTakesThePlaceOfAHeldOne(t *testing.T) {
	w := newWorld(t)
	w.publish(t, 1, strings.ToUpper(text)+"more")
	v := w.arrive(t, 1, text)
	v.Shard(1).Verify()
	assert.Equal(t, text[:10], w.kindOf(t, 1, 1))
	assert.Equal(t, "missing", w.kindOf(t, 1, 3), "only the old file has a third shard")
	found, err := w.Find(1)
	require.NoError(t, err)
	assert.Equal(t, manifestOf(text), found.Manifest)
	require.NoError(t, found.Close())
	entries, err := w.Entries()
	require.NoError(t, err)
	assert.Equal(t, []distfile.Entry{{Version: 1, Digest: manifestOf(text).Digest}}, entries)
}

func TestFindReturnsTheManifestAndItsText(t *testing.T) {
	w := newWorld(t)
	_, err := w.Find(1)
	require.ErrorIs(t, err, fs.ErrNotExist)
	m := w.publish(t, 1, text)
	arriving := w.arrive(t, 2, text)
	arriving.Shard(2).Verify()
	for number, arrives := range map[shard.Version]bool{1: false, 2: true} {
		v, err := w.Find(number)
		require.NoError(t, err)
		assert.Equal(t, m.Shards, v.Manifest.Shards)
		tier, ok := v.Arriving()
		assert.Equal(t, arrives, ok)
		assert.Equal(t, map[bool]int{true: 2}[arrives], tier)
		file, tag, err := v.Text()
		require.NoError(t, err)
		written, err := io.ReadAll(file)
		require.NoError(t, err)
		assert.Equal(t, shard.Digest(sha256.Sum256(written)), tag)
		again, err := shard.ParseManifest(strings.NewReader(string(written)))
		require.NoError(t, err)
		assert.Equal(t, m.Digest, again.Digest)
		var here []bool
		for e := range v.Extents() {
			here = append(here, e.Verified)
		}
		assert.Equal(t, []bool{!arrives, true}, here)
		require.NoError(t, v.Close())
	}
	arriving.End()
	_, err = w.Find(2)
	require.ErrorIs(t, err, catalog.ErrLater)
	plain := manifestOf(text)
	plain.Shards = make([]shard.Digest, 2)
	w.board.Begin(distfile.Entry{Version: 2, Digest: plain.Digest}, plain, 1, nil)
	_, err = w.Find(2)
	require.ErrorIs(t, err, catalog.ErrLater, "without digests there is no manifest")
}

func TestWithoutADirectoryAllIsOnTheBoard(t *testing.T) {
	w := newWorld(t)
	w.Catalog = catalog.New(nil, w.board)
	assert.False(t, w.HasDirectory())
	assert.Equal(t, "missing", w.kindOf(t, 1, 1))
	v := w.arrive(t, 1, text)
	assert.Equal(t, "arriving", w.kindOf(t, 1, 1))
	v.Shard(1).Verify()
	assert.Equal(t, text[:10], w.kindOf(t, 1, 1))
	w.board.Unlist(1)
	assert.Equal(t, "missing", w.kindOf(t, 1, 1))
	_, err := w.Find(1)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestAnArrivingShardIsReadAsItComes(t *testing.T) {
	w := newWorld(t)
	v := w.arrive(t, 1, text)
	s, err := w.Shard(1, 1)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	assert.Zero(t, s.Ready(0))
	v.Shard(1).Wrote(disk.Range{To: 10})
	assert.Zero(t, s.Ready(0), "its end is held back")
	v.Shard(1).Verify()
	n, err := s.Await(t.Context(), 3, time.Hour)
	require.NoError(t, err)
	assert.EqualValues(t, 7, n)
	got := make([]byte, 7)
	_, err = s.ReadAt(got, 3)
	require.NoError(t, err)
	assert.Equal(t, text[3:10], string(got))
}

func TestInventoryHasTheNewestVersions(t *testing.T) {
	w := newWorld(t)
	for v := range shard.Version(3) {
		w.publish(t, v+1, text)
	}
	w.arrive(t, 5, text).Shard(1).Verify()
	w.board.List(distfile.Entry{Version: 2, Digest: shard.Digest{2}})
	all, err := w.Inventory(4)
	require.NoError(t, err)
	assert.Zero(t, all.More)
	assert.Positive(t, all.Disk.Bytes)
	var states []catalog.State
	for _, item := range all.Versions {
		states = append(states, item.State)
	}
	assert.Equal(t, []catalog.State{catalog.Arriving, catalog.Held, catalog.Waiting, catalog.Held}, states)
	assert.Equal(t, []relay.Extent{{Verified: true, Begun: true, Bytes: 10}, {}}, all.Versions[0].Extents)
	assert.ElementsMatch(t, []int{1, 2}, all.Versions[1].Numbers)
	newest, err := w.Inventory(1)
	require.NoError(t, err)
	assert.Equal(t, 3, newest.More)
	assert.Equal(t, all.Versions[:1], newest.Versions)
	versions, missing := w.Count()
	assert.Equal(t, 2, versions)
	assert.Equal(t, 1, missing)
}
