package store_test

import (
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

func TestDraftSurvivesReopening(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir, store.Middle)
	d, m := draft(t, first, 7, textOf(7))
	require.NoError(t, d.SetManifest(m))
	require.NoError(t, first.Close())

	second := open(t, dir, store.Middle)
	recoverCrash(t, second)
	d, err := second.Draft(7)
	require.NoError(t, err)
	got, err := d.Manifest()
	require.NoError(t, err)
	assert.Equal(t, m, got)
	for number := 1; number <= len(m.Shards); number++ {
		f, err := d.Read(number)
		require.NoError(t, err)
		require.NoError(t, m.Shard(number).Verify(f, make([]byte, 64)))
		require.NoError(t, f.Close())
	}
	assert.Empty(t, offered(t, second))
	_, _, err = second.Shard(7, 1)
	require.ErrorIs(t, err, fs.ErrNotExist, "a draft is not served")

	change(t, second, func(w *store.Writer) { require.NoError(t, w.Publish(d, m)) })
	requireWhole(t, second, 7)
}

func TestDraftHoldsAShardOnlyWhenItIsCommitted(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Middle)
	d, err := st.Draft(1)
	require.NoError(t, err)
	put := func(text string, end func(shard.Writer) error) {
		w, err := d.Create(1)
		require.NoError(t, err)
		_, err = io.WriteString(w, text)
		require.NoError(t, err)
		require.NoError(t, end(w))
	}
	held := func() (string, error) {
		text, err := os.ReadFile(filepath.Join(dir, ".shardcast/drafts/v1/shard_001.bin"))
		return string(text), err
	}
	put("given up", shard.Writer.Close)
	_, err = held()
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, text := range []string{"first", "second"} {
		put(text, shard.Writer.Commit)
		put("given up", shard.Writer.Close)
		got, err := held()
		require.NoError(t, err)
		assert.Equal(t, text, got)
	}
}

func TestAHeldDraftIsNotLookedForAgain(t *testing.T) {
	dir := t.TempDir()
	d, err := open(t, dir, store.Origin).Draft(1)
	require.NoError(t, err)
	release, err := d.Hold()
	require.NoError(t, err)
	elsewhere := filepath.Join(dir, "elsewhere")
	require.NoError(t, os.Rename(filepath.Join(dir, ".shardcast/drafts/v1"), elsewhere))
	w, err := d.Create(1)
	require.NoError(t, err)
	require.NoError(t, w.Commit())
	require.FileExists(t, filepath.Join(elsewhere, "shard_001.bin"))
	require.NoError(t, release())
	_, err = d.Create(2)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestDraftManifest(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Middle)
	d, m := draft(t, st, 1, textOf(1))
	_, err := d.Manifest()
	require.ErrorIs(t, err, fs.ErrNotExist)

	bad := m
	bad.Size++
	bad.ShardSize = 1
	require.ErrorIs(t, d.SetManifest(bad), shard.ErrManifest)
	_, err = d.Manifest()
	require.ErrorIs(t, err, fs.ErrNotExist)

	require.NoError(t, d.SetManifest(m))
	write(t, dir, ".shardcast/drafts/v1/manifest.json", "{")
	_, err = d.Manifest()
	require.ErrorIs(t, err, shard.ErrManifest)
	require.NoError(t, d.SetManifest(m))
	got, err := d.Manifest()
	require.NoError(t, err)
	assert.Equal(t, m, got)
}

func TestDraftIsDiscardedWhole(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Middle)
	for v := shard.Version(1); v <= 3; v++ {
		draft(t, st, v, textOf(v))
	}
	write(t, dir, ".shardcast/drafts/notes.txt", "not a draft")
	require.NoError(t, st.DiscardDrafts(func(v shard.Version) bool { return v == 2 }))
	assert.Equal(t, []string{
		".shardcast/drafts/notes.txt",
		".shardcast/drafts/v2/shard_001.bin", ".shardcast/drafts/v2/shard_002.bin",
		".shardcast/drafts/v2/shard_003.bin", ".shardcast/retired",
	}, tree(t, dir))

	d, err := st.Draft(2)
	require.NoError(t, err)
	require.NoError(t, d.Discard())
	require.NoError(t, d.Discard(), "there is nothing left to discard")
	assert.Equal(t, []string{".shardcast/drafts/notes.txt", ".shardcast/retired"}, tree(t, dir))
}

func TestPublishRefusesADraftThatIsNotWhole(t *testing.T) {
	for name, missing := range map[string][]int{
		"without the first": {1},
		"without the last":  {3},
		"without any":       {1, 2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := open(t, dir, store.Origin)
			publish(t, st, 5)
			d, m := draft(t, st, 2, textOf(2))
			for _, number := range missing {
				file := filepath.Join(dir, ".shardcast", "drafts", "v2", shard.FileName(number))
				require.NoError(t, os.Rename(file, file+".part"))
			}
			change(t, st, func(w *store.Writer) {
				err := w.Publish(d, m)
				require.Error(t, err)
				require.ErrorContains(t, err, "v2")
				require.ErrorContains(t, err, "is missing")
			})
			requireWhole(t, st, 1)
			for number := range 3 {
				f, err := d.Read(number + 1)
				if err != nil {
					require.ErrorIs(t, err, fs.ErrNotExist)
					require.Contains(t, missing, number+1)
					continue
				}
				require.NoError(t, f.Close())
			}

			_, err := cut(t.Context(), d, textOf(2))
			require.NoError(t, err)
			change(t, st, func(w *store.Writer) { require.NoError(t, w.Publish(d, m)) })
			requireWhole(t, st, 1, 2)
		})
	}
}

func TestPublishRefusesABadManifest(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	d, m := draft(t, st, 1, textOf(1))
	bad := m
	bad.Shards = bad.Shards[1:]
	change(t, st, func(w *store.Writer) {
		require.ErrorIs(t, w.Publish(d, bad), shard.ErrManifest)
		assert.Empty(t, offered(t, st))
		require.NoError(t, w.Publish(d, m))
	})
	requireWhole(t, st, 1)
}

func TestPublishLeavesForeignFilesBehind(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write(t, outside, "file", "kept")
	st := open(t, dir, store.Middle)
	d, m := draft(t, st, 1, textOf(1))
	in := filepath.Join(dir, ".shardcast", "drafts", "v1")
	for _, name := range []string{"shard_004.bin", "shard_00001.bin", "shard_001.bin.part", "notes.txt", ".hidden"} {
		write(t, in, name, "junk")
	}
	require.NoError(t, os.Mkdir(filepath.Join(in, "directory"), 0o755))
	require.NoError(t, os.Symlink(outside, filepath.Join(in, "link")))

	change(t, st, func(w *store.Writer) { require.NoError(t, w.Publish(d, m)) })
	assert.Equal(t, clean(1), tree(t, dir))
	assert.Equal(t, []string{"file"}, tree(t, outside))
}

func TestEmptyFileIsPublished(t *testing.T) {
	st := open(t, t.TempDir(), store.Origin)
	publishAs(t, st, 1, 5, "")
	assert.Equal(t, []shard.Version{1}, offered(t, st))
	text, err := content(st, 1)
	require.NoError(t, err)
	assert.Empty(t, text)
}

func TestDraftNeedsRoomOnTheDisk(t *testing.T) {
	st := open(t, t.TempDir(), store.Middle)
	d, err := st.Draft(1)
	require.NoError(t, err)
	require.NoError(t, d.Need(1))
	if err := d.Need(math.MaxInt64); err != nil {
		require.ErrorContains(t, err, st.Dir())
	}
}
