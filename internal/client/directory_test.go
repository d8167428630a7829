package client_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/client/sitetest"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/fetch"
)

// model makes a directory of files of different sizes, the first of which has the text config.
func model(t *testing.T, config string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub", "none"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "run.sh"), []byte("#!/bin/sh"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sub", "empty"), nil, 0o644))
	for i := range 3 {
		name := filepath.Join(dir, "sub", fmt.Sprintf("part%d.bin", i))
		require.NoError(t, os.WriteFile(name, content(byte(i), 2500), 0o644))
	}
	return dir
}

// read returns the files and directories below dir, with the contents of files, and marks
// those that may be executed.
func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		name, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		if entry.IsDir() {
			found[name] = "directory"
			return nil
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		found[name] = fmt.Sprintf("%v %x", info.Mode()&0o100 != 0, text)
		return nil
	}))
	return found
}

// names returns the names in dir.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var all []string
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}

func TestADirectoryIsDownloadedAsADirectory(t *testing.T) {
	from, dir := model(t, "{}"), t.TempDir()
	c := newClient(t, sitetest.Of(t, from))
	var named string
	_, _, err := c.Download(t.Context(), client.Download{
		Entry: find(t, c), Dir: dir, Named: func(path string) { named = path },
	})
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(dir, "model"), named)
	assert.Equal(t, read(t, from), read(t, named))
	assert.Equal(t, []string{"model"}, names(t, dir), "nothing else is left")
}

func TestADirectoryThatIsCompleteIsNotFetchedAgain(t *testing.T) {
	from, dir := model(t, "{}"), t.TempDir()
	s := sitetest.Of(t, from)
	c := newClient(t, s)
	d := client.Download{Entry: find(t, c), Dir: dir}
	_, _, err := c.Download(t.Context(), d)
	require.NoError(t, err)
	s.ShardsAsked()
	_, went, err := c.Download(t.Context(), d)
	require.NoError(t, err)
	assert.Empty(t, s.ShardsAsked())
	assert.Equal(t, went.Size, went.Resumed)
}

func TestADirectoryReplacesTheOneOfADownload(t *testing.T) {
	first, second, dir := model(t, "1"), model(t, "2"), t.TempDir()
	s := sitetest.Of(t, first, second)
	c := newClient(t, s)
	find(t, c)
	for i, from := range []string{first, second} {
		_, _, err := c.Download(t.Context(), client.Download{Entry: offered(t, s)[i], Dir: dir})
		require.NoError(t, err)
		assert.Equal(t, read(t, from), read(t, filepath.Join(dir, "model")))
		assert.Equal(t, []string{"model"}, names(t, dir))
	}
}

func TestADirectoryHasThePermissionsOfTheOneThatItReplaces(t *testing.T) {
	for name, mode := range map[string]fs.FileMode{
		"private": 0o700, "of a group": fs.ModeSetgid | 0o770, "not to be written to": 0o500,
	} {
		t.Run(name, func(t *testing.T) {
			first, second, dir := model(t, "1"), model(t, "2"), t.TempDir()
			s := sitetest.Of(t, first, second)
			c := newClient(t, s)
			find(t, c)
			out := filepath.Join(dir, "model")
			require.NoError(t, os.Mkdir(out, 0o755)) // an empty one is replaced, too
			for i, from := range []string{first, second} {
				require.NoError(t, os.Chmod(out, mode))
				_, _, err := c.Download(t.Context(), client.Download{Entry: offered(t, s)[i], Dir: dir})
				require.NoError(t, err)
				assert.Equal(t, read(t, from), read(t, out))
				info, err := os.Stat(out)
				require.NoError(t, err)
				assert.Equal(t, fs.ModeDir|mode, info.Mode())
				assert.Equal(t, []string{"model"}, names(t, dir))
			}
			require.NoError(t, os.Chmod(out, 0o700))
		})
	}
}

// replacing leaves what a download does that is killed while it replaces the directory old in steps.
func replacing(t *testing.T, old string) {
	t.Helper()
	part := filepath.Join(filepath.Dir(old), ".model.shardcast-part")
	require.NoError(t, os.Mkdir(part, 0o700))
	info, err := os.Stat(old)
	require.NoError(t, err)
	note := fmt.Sprintf("%d model", disk.Inode(info))
	require.NoError(t, os.WriteFile(filepath.Join(part, "replaced"), []byte(note), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(part, "lock"), nil, 0o600))
}

// Where a file system cannot exchange two names, a directory is replaced in two steps.
func TestAReplacementThatWasCutShortIsEnded(t *testing.T) {
	for name, tc := range map[string]struct {
		has  bool // the new one its name
		next int  // the version that is fetched then
	}{
		"before the new one had its name":     {false, 1},
		"after that":                          {true, 1},
		"after that, when the new one is all": {true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			versions, dir := []string{model(t, "1"), model(t, "2")}, t.TempDir()
			s := sitetest.Of(t, versions...)
			c := newClient(t, s)
			find(t, c)
			_, _, err := c.Download(t.Context(), client.Download{Entry: offered(t, s)[0], Dir: dir})
			require.NoError(t, err)
			out, old := filepath.Join(dir, "model"), filepath.Join(dir, ".model.shardcast-old")
			if tc.has {
				require.NoError(t, os.CopyFS(old, os.DirFS(out)))
			} else {
				require.NoError(t, os.Rename(out, old))
			}
			replacing(t, old)
			_, _, err = c.Download(t.Context(), client.Download{Entry: offered(t, s)[tc.next], Dir: dir})
			require.NoError(t, err)
			assert.Equal(t, read(t, versions[tc.next]), read(t, out))
			assert.Equal(t, []string{"model"}, names(t, dir))
		})
	}
}

// A hidden directory that has the name of one that is replaced, and is another one, stays.
func TestWhatNoDownloadHasReplacedStays(t *testing.T) {
	for name, noted := range map[string]bool{"without a note": false, "with that of another directory": true} {
		t.Run(name, func(t *testing.T) {
			s, dir := sitetest.Of(t, model(t, "1")), t.TempDir()
			old := filepath.Join(dir, ".model.shardcast-old")
			require.NoError(t, os.MkdirAll(filepath.Join(old, "mine"), 0o700))
			if noted {
				replacing(t, dir)
				require.NoError(t, os.Rename(filepath.Join(filepath.Dir(dir), ".model.shardcast-part"),
					filepath.Join(dir, ".model.shardcast-part")))
			}
			c := newClient(t, s)
			find(t, c)
			_, _, err := c.Download(t.Context(), client.Download{Entry: offered(t, s)[0], Dir: dir})
			require.NoError(t, err)
			assert.Equal(t, []string{".model.shardcast-old", "model"}, names(t, dir))
			assert.DirExists(t, filepath.Join(old, "mine"))
		})
	}
}

func TestADirectoryReplacesNothingElse(t *testing.T) {
	for name, tc := range map[string]struct {
		make    func(path string) error
		replace bool
		err     string
	}{
		"nothing":            {func(string) error { return nil }, false, ""},
		"an empty directory": {func(path string) error { return os.Mkdir(path, 0o755) }, false, ""},
		"a user's directory": {
			func(path string) error { return os.MkdirAll(path+"/mine", 0o755) }, false,
			"it is a directory that no download has put there",
		},
		"a user's, as insisted": {func(path string) error { return os.MkdirAll(path+"/mine", 0o755) }, true, ""},
		"a file": {
			func(path string) error { return os.WriteFile(path, []byte("mine"), 0o600) }, true,
			"it is a file, and the version is a directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := sitetest.Of(t, model(t, "{}"))
			c := newClient(t, s)
			path := filepath.Join(t.TempDir(), "out")
			require.NoError(t, tc.make(path))
			_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Path: path, Replace: tc.replace})
			if tc.err == "" {
				require.NoError(t, err)
				assert.Contains(t, names(t, path), "config.json")
				assert.NotContains(t, names(t, path), "mine")
				return
			}
			require.ErrorContains(t, err, tc.err)
			assert.Empty(t, s.ShardsAsked(), "it is refused before the first byte")
			assert.Equal(t, []string{"out"}, names(t, filepath.Dir(path)))
		})
	}
}

func TestAnInterruptedDirectoryIsContinued(t *testing.T) {
	from, dir := model(t, "{}"), t.TempDir()
	s := sitetest.Of(t, from)
	s.SpoilShard("shard_005.bin", http.NotFound)
	c := newClient(t, s)
	d := client.Download{Entry: find(t, c), Dir: dir}
	_, _, err := c.Download(t.Context(), d)
	require.Error(t, err)
	assert.Equal(t, []string{".model.shardcast-part"}, names(t, dir))
	s.ShardsAsked()

	s.SpoilShards(nil)
	again := newClient(t, s)
	find(t, again)
	_, went, err := again.Download(t.Context(), d)
	require.NoError(t, err)
	assert.Positive(t, went.Resumed)
	assert.Equal(t, read(t, from), read(t, filepath.Join(dir, "model")))
	assert.Equal(t, []string{"model"}, names(t, dir))
}

func TestADirectoryOfAnotherVersionIsNotContinued(t *testing.T) {
	first, second, dir := model(t, "1"), model(t, "2"), t.TempDir()
	s := sitetest.Of(t, first, second)
	s.SpoilShard("shard_005.bin", http.NotFound)
	c := newClient(t, s)
	find(t, c)
	path := filepath.Join(dir, "out")
	_, _, err := c.Download(t.Context(), client.Download{Entry: offered(t, s)[0], Path: path})
	require.Error(t, err)
	s.SpoilShards(nil)
	again := newClient(t, s)
	_, went, err := again.Download(t.Context(), client.Download{Entry: find(t, again), Path: path})
	require.NoError(t, err)
	assert.Zero(t, went.Resumed)
	assert.Equal(t, read(t, second), read(t, path))
}

func TestAWrongDirectoryIsNeverThere(t *testing.T) {
	s, dir := sitetest.Of(t, model(t, "{}")), t.TempDir()
	s.SpoilShard("shard_005.bin", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("x"), shardSize))
	})
	c := newClient(t, s)
	_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Dir: dir})
	require.ErrorIs(t, err, fetch.ErrIntegrity)
	_, err = os.Lstat(filepath.Join(dir, "model"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestAPartOfADirectoryIsDownloadedByItsShards(t *testing.T) {
	from, dir := model(t, "{}"), t.TempDir()
	s := sitetest.Of(t, from)
	c := newClient(t, s)
	out := filepath.Join(dir, "out")
	d := client.Download{Entry: find(t, c), Path: out, Files: []string{"part1.bin", "*.sh", "empty"}}
	m, went, err := c.Download(t.Context(), d)
	require.NoError(t, err)
	got, want := read(t, out), read(t, from)
	for _, name := range []string{"config.json", "sub/none", "sub/part0.bin", "sub/part2.bin"} {
		delete(want, name)
	}
	assert.Equal(t, want, got)
	assert.Less(t, went.Size, m.Size)
	assert.Equal(t, went.Size, went.Received)
	assert.Equal(t, []string{"out"}, names(t, dir))

	_, went, err = c.Download(t.Context(), d)
	require.NoError(t, err)
	assert.Zero(t, went.Received, "it is there")
	d.Files = []string{"*.json"}
	_, _, err = c.Download(t.Context(), d)
	require.NoError(t, err)
	assert.Equal(t, []string{"config.json"}, names(t, out), "another part replaces it")
	d.Files = nil
	_, _, err = c.Download(t.Context(), d)
	require.NoError(t, err)
	assert.Equal(t, read(t, from), read(t, out))

	d.Files, d.Path = []string{"*.pt"}, filepath.Join(dir, "none")
	_, _, err = c.Download(t.Context(), d)
	require.ErrorContains(t, err, `no file of it matches ["*.pt"]`)
	assert.Equal(t, []string{"out"}, names(t, dir))
}

func TestAPartByAManifestThatFewStateIsNotBelieved(t *testing.T) {
	from := model(t, "{}")
	honest, other := sitetest.Of(t, from), sitetest.Of(t, from)
	liar := sitetest.Lying(t, other, replaced("config.json", "confih.json"))
	for name, sites := range map[string][]*sitetest.Site{
		"two of three": {liar, honest, other}, "one of two": {liar, honest},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, sites...)
			d := client.Download{
				Entry: find(t, c), Path: filepath.Join(t.TempDir(), "out"), Files: []string{"part1.bin"},
			}
			_, _, err := c.Download(t.Context(), d)
			if name == "one of two" {
				require.ErrorIs(t, err, fetch.ErrIntegrity)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, read(t, from)["sub/part1.bin"], read(t, d.Path)["sub/part1.bin"])
		})
	}
}

func TestAnInterruptedPartIsContinued(t *testing.T) {
	from, dir := model(t, "{}"), t.TempDir()
	s := sitetest.Of(t, from)
	c := newClient(t, s)
	d := client.Download{Entry: find(t, c), Path: filepath.Join(dir, "out"), Files: []string{"part1.bin"}}
	_, _, err := c.Download(t.Context(), d)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(d.Path))
	s.SpoilShard("shard_008.bin", http.NotFound)
	_, first, err := c.Download(t.Context(), d)
	require.Error(t, err)
	require.Positive(t, first.Done)
	s.SpoilShards(nil)
	_, went, err := c.Download(t.Context(), d)
	require.NoError(t, err)
	assert.Positive(t, went.Resumed)
	assert.Equal(t, went.Size, went.Resumed+went.Received-went.Wasted)
	assert.Equal(t, read(t, from)["sub/part1.bin"], read(t, d.Path)["sub/part1.bin"])
	assert.Equal(t, []string{"out"}, names(t, dir))
}

func TestADirectoryGoesToAWriterAsATar(t *testing.T) {
	from, dir := model(t, "{}"), t.TempDir()
	s := sitetest.Of(t, from)
	c := newClient(t, s)
	var got bytes.Buffer
	_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Dir: dir, To: &got})
	require.NoError(t, err)
	resp, err := http.Get(s.URL + "/v1/stream")
	require.NoError(t, err)
	defer resp.Body.Close()
	want, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want, got.Bytes()))
	_, err = os.ReadDir(filepath.Join(dir, "model"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestAnAbandonedDirectoryIsRemoved(t *testing.T) {
	dir := t.TempDir()
	s := sitetest.Of(t, model(t, "{}"))
	s.SpoilShard("shard_005.bin", http.NotFound)
	c := newClient(t, s)
	_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Path: filepath.Join(dir, "first")})
	require.Error(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, ".mine.shardcast-part"), 0o755))
	old := time.Now().Add(-25 * time.Hour)
	age := func() {
		require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, _ error) error {
			return os.Chtimes(path, old, old)
		}))
	}
	age()
	require.NoError(t, os.Chtimes(filepath.Join(dir, ".first.shardcast-part", "tree", "run.sh"), old, time.Now()))
	s.SpoilShards(nil)
	_, _, err = c.Download(t.Context(), client.Download{Entry: find(t, c), Path: filepath.Join(dir, "second")})
	require.NoError(t, err)
	assert.Contains(t, names(t, dir), ".first.shardcast-part", "one file of it is new")

	age()
	_, _, err = c.Download(t.Context(), client.Download{Entry: find(t, c), Path: filepath.Join(dir, "third")})
	require.NoError(t, err)
	assert.Equal(t, []string{".mine.shardcast-part", "second", "third"}, names(t, dir))
}
