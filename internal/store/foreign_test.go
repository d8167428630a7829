package store_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// thing is the kind and the content of a path.
type thing struct {
	mode fs.FileMode
	text string
}

// snapshot returns the things under names in dir, and below them.
func snapshot(t *testing.T, dir string, names ...string) map[string]thing {
	t.Helper()
	found := make(map[string]thing)
	for _, name := range names {
		top := filepath.Join(dir, name)
		require.NoError(t, filepath.WalkDir(top, func(name string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := os.Lstat(name)
			if err != nil {
				return err
			}
			found[name] = thing{mode: info.Mode()}
			switch {
			case info.Mode().IsRegular():
				found[name] = thing{info.Mode(), read(t, filepath.Dir(name), filepath.Base(name))}
			case info.Mode()&fs.ModeSymlink != 0:
				target, err := os.Readlink(name)
				require.NoError(t, err)
				found[name] = thing{info.Mode(), target}
			}
			return nil
		}))
	}
	return found
}

func TestForeignThingsAreNeverTouched(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write(t, outside, "shard_001.bin", "outside")
	write(t, dir, "notes.txt", "mine")
	write(t, dir, "v99/shard_001.bin", "mine")
	write(t, dir, "vacation/picture", "mine")
	write(t, dir, "v03/file", "mine")
	write(t, dir, "v3", "mine")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "v6"), 0o700))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "v4")))
	require.NoError(t, os.Symlink(filepath.Join(outside, "missing"), filepath.Join(dir, "v5")))
	foreign := []string{"notes.txt", "v99", "vacation", "v03", "v3", "v4", "v5", "v6"}
	before, beforeOutside := snapshot(t, dir, foreign...), snapshot(t, outside, ".")

	st := open(t, dir, store.Origin)
	var published []shard.Version
	for range 4 {
		published = append(published, publish(t, st, 2))
	}
	assert.Equal(t, []shard.Version{1, 2, 7, 8}, published)
	requireWhole(t, st, 7, 8)
	change(t, st, func(w *store.Writer) {
		require.NoError(t, w.Reopen(8))
		require.NoError(t, w.Retire("a test", 7))
		require.NoError(t, w.Retire("a test", 3, 4, 5, 6, 99), "none of them is ours")
		require.NoError(t, w.Reopen(99))
	})
	require.NoError(t, st.Sweep(0))
	require.NoError(t, st.DiscardDrafts(func(shard.Version) bool { return false }))

	assert.Equal(t, before, snapshot(t, dir, foreign...))
	assert.Equal(t, beforeOutside, snapshot(t, outside, "."))
	for _, v := range []shard.Version{3, 4, 5} {
		_, _, err := st.Shard(v, 1)
		require.Error(t, err, v)
	}
}

func TestRetireNeverTouchesUnlistedDirectories(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Middle)
	publish(t, st, 5)
	write(t, dir, "v99/file", "mine")
	before := snapshot(t, dir, "v99")
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Retire("a test", 1, 99)) })
	assert.Empty(t, offered(t, st))
	require.DirExists(t, filepath.Join(dir, "v99"))
	assert.Equal(t, before, snapshot(t, dir, "v99"))
}

// The numbers of a middle are its upstream's, so that one can be taken.
func TestPublishUnderATakenNameNeverTouchesItsFiles(t *testing.T) {
	for name, put := range map[string]func(t *testing.T, dir, outside string){
		"a directory": func(t *testing.T, dir, _ string) { write(t, dir, "v2/file", "mine") },
		"an empty directory": func(t *testing.T, dir, _ string) {
			require.NoError(t, os.Mkdir(filepath.Join(dir, "v2"), 0o700))
		},
		"a file": func(t *testing.T, dir, _ string) { write(t, dir, "v2", "mine") },
		"a link": func(t *testing.T, dir, outside string) {
			require.NoError(t, os.Symlink(outside, filepath.Join(dir, "v2")))
		},
	} {
		for order, tc := range map[string]struct {
			held shard.Version
			keep int
		}{
			"to keep":       {held: 1, keep: 5},
			"to be retired": {held: 7, keep: 1},
		} {
			t.Run(name+" "+order, func(t *testing.T) {
				dir, outside := t.TempDir(), t.TempDir()
				write(t, outside, "file", "outside")
				st := open(t, dir, store.Middle)
				publishAs(t, st, tc.held, tc.keep, textOf(tc.held))
				put(t, dir, outside)
				before, beforeOutside := snapshot(t, dir, "v2"), snapshot(t, outside, ".")

				d, m := draft(t, st, 2, textOf(2))
				change(t, st, func(w *store.Writer) {
					err := w.Publish(d, m)
					if tc.held == 1 {
						require.Error(t, err)
						require.ErrorContains(t, err, "v2")
					}
				})
				recoverCrash(t, st)
				requireWhole(t, st, tc.held)
				_, err := os.Lstat(filepath.Join(dir, "v2"))
				require.NoError(t, err)
				assert.Equal(t, before, snapshot(t, dir, "v2"))
				assert.Equal(t, beforeOutside, snapshot(t, outside, "."))
			})
		}
	}
}

func TestLinksOutOfTheDirectoryAreNotFollowed(t *testing.T) {
	for name, tc := range map[string]struct {
		link   string // its target is a copy of the tree outside
		refuse func(st *store.Store) error
	}{
		"a version": {"v1", func(st *store.Store) error {
			_, err := st.Manifest(1)
			return err
		}},
		"a manifest": {"v1/manifest.json", func(st *store.Store) error {
			_, err := st.Manifest(1)
			return err
		}},
		"a shard": {"v1/shard_001.bin", func(st *store.Store) error {
			_, _, err := st.Shard(1, 1)
			return err
		}},
		"the distribution": {distfile.FileName, func(st *store.Store) error {
			_, err := st.Distribution()
			return err
		}},
		"a draft": {".shardcast/drafts/v2", func(st *store.Store) error {
			_, err := st.Draft(2)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, outside := t.TempDir(), t.TempDir()
			st := open(t, dir, store.Middle)
			publish(t, st, 5)
			draft(t, st, 2, textOf(2))
			target := filepath.Join(outside, filepath.Base(tc.link))
			require.NoError(t, os.Rename(filepath.Join(dir, tc.link), target))
			require.NoError(t, os.Symlink(target, filepath.Join(dir, tc.link)))
			before := snapshot(t, outside, ".")

			require.Error(t, tc.refuse(st))
			if w, err := st.Lock(t.Context()); err == nil {
				require.NoError(t, w.Retire("a test", 1))
				require.NoError(t, w.Unlock())
			}
			require.NoError(t, st.Sweep(0))
			require.NoError(t, st.DiscardDrafts(func(shard.Version) bool { return false }))
			assert.Equal(t, before, snapshot(t, outside, "."))
		})
	}
}

func TestPrivateLinksOutOfTheDirectoryAreNotFollowed(t *testing.T) {
	for _, name := range []string{".shardcast", ".shardcast/drafts", ".shardcast/retired"} {
		t.Run(name, func(t *testing.T) {
			dir, outside := t.TempDir(), t.TempDir()
			require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
			require.NoError(t, os.Symlink(outside, filepath.Join(dir, name)))
			st, err := store.Open(dir, store.Origin)
			if err == nil {
				defer st.Close() //nolint:errcheck // opened in error
			}
			require.Error(t, err)
			assert.Empty(t, tree(t, outside)[1:])
		})
	}
}

func TestLocksAreNotMadeThroughALink(t *testing.T) {
	for _, lock := range []string{"shardcast-origin.lock", "shardcast-middle.lock", "write.lock"} {
		t.Run(lock, func(t *testing.T) {
			dir, outside := t.TempDir(), t.TempDir()
			st := open(t, dir, store.Origin)
			require.NoError(t, os.Symlink(filepath.Join(outside, lock), filepath.Join(dir, ".shardcast", lock)))
			if release, err := st.Claim(t.Context()); err == nil {
				require.NoError(t, release())
			}
			if w, err := st.Lock(t.Context()); err == nil {
				require.NoError(t, w.Unlock())
			}
			assert.NoFileExists(t, filepath.Join(outside, lock))
		})
	}
}
