package watch

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// treesAtOnce has directories be complete when they are seen.
var treesAtOnce = Options{Trees: true, Glob: "*", Settle: time.Nanosecond}

func (w *watched) make(files ...string) {
	w.t.Helper()
	for _, name := range files {
		require.NoError(w.t, os.MkdirAll(filepath.Join(w.in, filepath.Dir(name)), 0o700))
		w.put(name, name)
	}
}

// manifest is the manifest of version v.
func (w *watched) manifest(v shard.Version) shard.Manifest {
	w.t.Helper()
	r, err := w.store.Manifest(v)
	require.NoError(w.t, err)
	defer r.Close()
	m, err := shard.ParseManifest(r)
	require.NoError(w.t, err)
	return m
}

func TestAWatchedTreeIsPublishedOnceAndAgainWhenItIsReplaced(t *testing.T) {
	w := watching(t, treesAtOnce)
	w.make("step_1/config.json", "step_1/sub/weights", "single.bin")
	require.Len(t, w.rounds(), 1, "and the single file never")
	m := w.manifest(1)
	assert.Equal(t, "step_1.tar", m.Name)
	assert.Equal(t, 2, m.Files.Count)
	assert.Len(t, w.rounds(), 1)
	w.restart()
	assert.Len(t, w.rounds(), 1)
	w.make("step_2/config.json")
	assert.Len(t, w.rounds(), 2)
	w.make("new/config.json", "new/sub/weights")
	require.NoError(t, os.RemoveAll(filepath.Join(w.in, "step_1")))
	require.NoError(t, os.Rename(filepath.Join(w.in, "new"), filepath.Join(w.in, "step_1")))
	assert.Len(t, w.rounds(), 3)
	w.restart()
	assert.Len(t, w.rounds(), 3)
}

func TestAWatchedTreeSettlesAsAWhole(t *testing.T) {
	w := watching(t, Options{Trees: true, Glob: "*", Settle: time.Hour})
	w.make("step_1/config.json")
	assert.Empty(t, w.rounds())
	w.seen["step_1"].since = time.Now().Add(-2 * time.Hour)
	w.make("step_1/weights/one")
	assert.Empty(t, w.rounds(), "a file more begins the time anew")
	w.seen["step_1"].since = time.Now().Add(-2 * time.Hour)
	assert.Len(t, w.rounds(), 1)
}

func TestAMarkerCompletesATreeThatHasNothingNewer(t *testing.T) {
	w := watching(t, Options{Trees: true, Glob: "*", Marker: "stable", Settle: time.Hour})
	w.make("step_1/weights", "step_2/weights")
	assert.Empty(t, w.rounds())
	past := time.Now().Add(-time.Minute)
	w.make("step_1/stable", "step_2/stable")
	require.NoError(t, os.Chtimes(filepath.Join(w.in, "step_2/stable"), past, past))
	assert.Len(t, w.rounds(), 1)
	assert.Equal(t, "step_1.tar", w.manifest(1).Name)
}

func TestATreeWithAnOpenFileWaits(t *testing.T) {
	w := watching(t, Options{Trees: true, Glob: "*", Settle: time.Minute})
	w.make("step_1/weights")
	require.Empty(t, w.rounds())
	w.seen["step_1"].since = time.Now().Add(-time.Hour)
	f, err := os.OpenFile(filepath.Join(w.in, "step_1/weights"), os.O_WRONLY, 0)
	require.NoError(t, err)
	if len(w.rounds()) > 0 {
		t.Skip("this file system knows no leases")
	}
	require.NoError(t, f.Close())
	w.seen["step_1"].retry = time.Time{}
	assert.Len(t, w.rounds(), 1)
}

func TestATreeThatChangesWhileItIsReadIsPublishedAsItIsAfterwards(t *testing.T) {
	w := watching(t, treesAtOnce)
	w.make("step_1/a", "step_1/b")
	found, err := w.look()
	require.NoError(t, err)
	w.sight(found, time.Now())
	opened, err := w.watch.open(w.root, found[0])
	require.NoError(t, err)
	w.make("step_1/c")
	_, err = w.origin.BroadcastOpened(t.Context(), opened, origin.Options{}, nil)
	require.ErrorIs(t, err, shard.ErrChanged)
	w.take(t.Context(), found[0], w.seen["step_1"])
	assert.Equal(t, 1, w.seen["step_1"].retries.Failures())
	w.seen["step_1"].retry = time.Time{}
	require.Len(t, w.rounds(), 1)
	assert.Equal(t, 3, w.manifest(1).Files.Count)
}

func TestWatchedTreesLeaveOutWhatNoTreeIs(t *testing.T) {
	chosen := tree.Options{Exclude: []string{"*.pt"}}
	w := watching(t, Options{Trees: true, Glob: "*", Settle: time.Nanosecond, Tree: chosen})
	w.make("good/weights", "good/optimizer.pt", "pipe/weights", ".hidden/weights", "none/only.pt",
		"coming.incomplete/a")
	require.NoError(t, os.MkdirAll(filepath.Join(w.in, "empty/dir"), 0o700))
	require.NoError(t, os.Symlink("weights", filepath.Join(w.in, "pipe/link")))
	require.NoError(t, os.Symlink("good", filepath.Join(w.in, "linked")))
	require.Len(t, w.rounds(), 1)
	assert.Equal(t, 1, w.manifest(1).Files.Count)
	require.Len(t, w.alone, 2)
	assert.Equal(t, aLink, w.alone["linked"])
	assert.Contains(t, w.alone["pipe"], "pipe/link: it is a symbolic link")
}

func TestLinksOfWatchedTreesLeadOnlyBelowTheDirectoryNamed(t *testing.T) {
	blobs, elsewhere := t.TempDir(), t.TempDir()
	for _, dir := range []string{blobs, elsewhere} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "blob"), []byte("blob"), 0o600))
	}
	w := watching(t, Options{
		Trees: true, Glob: "*", Settle: time.Nanosecond, Tree: tree.Options{FollowLinks: true, LinksBelow: blobs},
	})
	w.make("good/a", "bad/a")
	require.NoError(t, os.Symlink(filepath.Join(blobs, "blob"), filepath.Join(w.in, "good/link")))
	require.NoError(t, os.Symlink(filepath.Join(elsewhere, "blob"), filepath.Join(w.in, "bad/link")))
	require.NoError(t, w.watch.Check(w.store.Dir()))
	require.Len(t, w.rounds(), 1)
	assert.Equal(t, 2, w.manifest(1).Files.Count)
	assert.Contains(t, w.alone["bad"], "which is not below")
}

func TestADirectoryWithTheDataDirectoryIsNoTree(t *testing.T) {
	w := watching(t, treesAtOnce)
	w.watch.Dir = filepath.Dir(filepath.Dir(w.in)) // in/ and data/ are in one directory of it
	assert.Empty(t, w.rounds())
	for _, why := range w.alone {
		if strings.Contains(why, "the data directory is in it") {
			return
		}
	}
	assert.Fail(t, "no reason", w.alone)
}

func TestAWatchOfTreesIsChecked(t *testing.T) {
	dir := t.TempDir()
	for want, w := range map[string]Options{
		"Glob: \"a/b\", want the names of directories": {Trees: true, Glob: "a/b"},
		"Include, Exclude: bad pattern":                {Trees: true, Tree: tree.Options{Include: []string{"["}}},
		"LinksBelow: links are followed only":          {Trees: true, Tree: tree.Options{FollowLinks: true}},
		"LinksBelow: stat": {
			Trees: true, Tree: tree.Options{FollowLinks: true, LinksBelow: "/x"},
		},
		"Depth: patterns and links are those": {Tree: tree.Options{Include: []string{"a"}}},
	} {
		w.Glob = cmp.Or(w.Glob, "*")
		w.Dir, w.Settle = dir, time.Second
		require.ErrorContains(t, w.Check(filepath.Join(dir, "data")), want)
	}
}
