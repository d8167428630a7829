package follow_test

import (
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/client/sitetest"
	"github.com/shardcast/shardcast/internal/follow"
	"github.com/shardcast/shardcast/internal/origin"
)

// model makes a directory of the name model, of which text is in a file.
func model(t *testing.T, text string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub", "none"), 0o700))
	for name, data := range modelOf(text) {
		if !strings.HasSuffix(name, "/") {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600))
		}
	}
	return dir
}

func modelOf(text string) map[string]string {
	return map[string]string{
		"sub/": "", "sub/none/": "", "config.json": text, "sub/empty": "", "sub/part": string(content(1, 2500)),
	}
}

// found returns the files below dir with their contents, and the directories with a slash.
func found(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		name, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		switch {
		case name == ".":
		case entry.IsDir():
			all[name+"/"] = ""
		default:
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			all[name] = string(text)
		}
		return nil
	}))
	return all
}

// visible returns what is below dir without the record.
func visible(t *testing.T, dir string) []string {
	t.Helper()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(found(t, dir))),
		func(name string) bool { return strings.HasPrefix(name, ".shardcast-follow/") })
}

// publishTree publishes a directory at s.
func publishTree(t *testing.T, s *site, dir string) {
	t.Helper()
	_, err := origin.New(s.Store, shardSize, 100, silent).Broadcast(t.Context(), dir)
	require.NoError(t, err)
}

// deliver follows s until count versions have come.
func deliver(t *testing.T, s *site, o follow.Options, count int) (paths []string) {
	t.Helper()
	err := follow.Run(t.Context(), with(t, o, s), func(got follow.Delivery, err error) bool {
		require.NoError(t, err)
		paths = append(paths, got.Path)
		return len(paths) < count
	})
	require.NoError(t, err)
	return paths
}

func TestATreeIsDeliveredAndRemovedWhole(t *testing.T) {
	s := sitetest.Of(t, model(t, "1"))
	f := follow.Options{Dir: t.TempDir(), Keep: 1, Marker: "stable", Link: "latest"}
	path := deliver(t, s, f, 1)[0]
	assert.Equal(t, filepath.Join(f.Dir, "v1", "model"), path)
	assert.Equal(t, modelOf("1"), found(t, path))
	publishTree(t, s, model(t, "2"))
	assert.Equal(t, modelOf("2"), found(t, deliver(t, s, f, 1)[0]))
	assertFiles(t, f.Dir, map[string][]byte{".shardcast-follow": nil, "v2": nil, "latest": nil})
	assertFiles(t, filepath.Join(f.Dir, "v2"), map[string][]byte{"model": nil, "stable": {}})
	lists, err := filepath.Glob(filepath.Join(f.Dir, ".shardcast-follow", "versions", "*", "files.jsonl"))
	require.NoError(t, err)
	assert.Len(t, lists, 1)
}

func TestATreeWhoseRemovalWasKilledIsRemoved(t *testing.T) {
	const gone = ".v1.shardcast-gone"
	for name, tc := range map[string]struct {
		leave func(dir string) error // in the directory of v1
		want  []string
	}{
		"before it began":      {func(string) error { return nil }, nil},
		"when it has no name":  {func(dir string) error { return os.Rename(dir+"/model", dir+"/"+gone) }, nil},
		"when it was all gone": {func(dir string) error { return os.RemoveAll(dir + "/model") }, nil},
		"half-way": {func(dir string) error {
			if err := os.Remove(dir + "/model/config.json"); err != nil {
				return err
			}
			return os.Rename(dir+"/model", dir+"/"+gone)
		}, nil},
		"with a file of others": {func(dir string) error {
			if err := os.WriteFile(dir+"/model/sub/mine", nil, 0o600); err != nil {
				return err
			}
			return os.Rename(dir+"/model", dir+"/"+gone)
		}, []string{"v1/", "v1/model/", "v1/model/sub/", "v1/model/sub/mine"}},
		"with a directory of others in its place": {func(dir string) error {
			if err := os.Rename(dir+"/model", dir+"/"+gone); err != nil {
				return err
			}
			return os.Mkdir(dir+"/model", 0o700)
		}, []string{"v1/", "v1/model/"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := sitetest.Of(t, model(t, "1"))
			f := follow.Options{Dir: t.TempDir()}
			deliver(t, s, f, 1)
			rewrite(t, f.Dir, func(record map[string]any) { record["leaving"], record["held"] = record["held"], nil })
			require.NoError(t, tc.leave(filepath.Join(f.Dir, "v1")))
			publishTree(t, s, model(t, "2"))
			deliver(t, s, f, 1)
			want := append(slices.Clone(tc.want), "v2/", "v2/model/", "v2/model/config.json", "v2/model/sub/",
				"v2/model/sub/empty", "v2/model/sub/none/", "v2/model/sub/part")
			assert.Equal(t, want, visible(t, f.Dir))
		})
	}
}

func TestATreeThatGotItsNameJustBeforeACrashIsNotFetchedAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(path string) error
		want   []string // passed over or delivered
		asked  bool
	}{
		"whole":   {func(string) error { return nil }, []string{"+v1"}, false},
		"not yet": {os.RemoveAll, []string{"+v1"}, true},
		"another": {func(path string) error {
			return os.WriteFile(path+"/config.json", []byte("2"), 0o600)
		}, []string{"-v1"}, false},
		"more": {func(path string) error { return os.Mkdir(path+"/more", 0o700) }, []string{"-v1"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := sitetest.Of(t, model(t, "1"))
			f := follow.Options{Dir: t.TempDir()}
			path := deliver(t, s, f, 1)[0]
			s.ShardsAsked()
			require.NoError(t, tc.change(path))
			rewrite(t, f.Dir, func(record map[string]any) {
				held, _ := record["held"].([]any)
				require.Len(t, held, 1)
				begun, _ := held[0].(map[string]any)
				begun["delivered"] = false
				record["held"], record["begun"], record["last"], record["known"] = nil, begun, 0, nil
			})
			assert.Equal(t, tc.want, versionsOf(t, s, f, 1))
			assert.Equal(t, tc.asked, len(s.ShardsAsked()) > 0)
		})
	}
}

// versionsOf is take for versions that are trees.
func versionsOf(t *testing.T, s *site, o follow.Options, count int) (versions []string) {
	t.Helper()
	err := follow.Run(t.Context(), with(t, o, s), func(got follow.Delivery, err error) bool {
		sign := "+"
		if err != nil {
			sign = "-"
		}
		versions = append(versions, sign+got.Entry.Version.String())
		return len(versions) < count
	})
	require.NoError(t, err)
	return versions
}

func TestATreeThatWasChangedIsKeptAndNotFetchedAgain(t *testing.T) {
	s := sitetest.Of(t, model(t, "1"))
	f := follow.Options{Dir: t.TempDir(), Keep: 1}
	path := deliver(t, s, f, 1)[0]
	s.ShardsAsked()
	require.NoError(t, os.WriteFile(filepath.Join(path, "config.json"), []byte("mine"), 0o600))
	require.NoError(t, os.Remove(filepath.Join(path, "sub", "empty")))
	require.NoError(t, os.Chtimes(filepath.Join(path, "sub", "part"), time.Now(), time.Unix(1, 0)))
	var log strings.Builder
	o := with(t, f, s)
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	publishTree(t, s, model(t, "2"))
	require.NoError(t, follow.Run(t.Context(), o, func(_ follow.Delivery, err error) bool {
		require.NoError(t, err)
		return false
	}))
	assert.Contains(t, log.String(), "file has gone or changed")
	assert.Contains(t, log.String(), "files of others left")
	assert.NotContains(t, strings.Join(s.ShardsAsked(), " "), "/v1/")
	assert.Equal(t, map[string]string{"config.json": "mine"}, found(t, path), "the rest was ours")
}

func TestATreeThatIsRemovedIsFetchedAgain(t *testing.T) {
	s := sitetest.Of(t, model(t, "1"))
	f := follow.Options{Dir: t.TempDir()}
	path := deliver(t, s, f, 1)[0]
	require.NoError(t, os.RemoveAll(path))
	assert.Equal(t, modelOf("1"), found(t, deliver(t, s, f, 1)[0]))
}

func TestATreeThatWasThereBeforeIsNeitherFetchedNorRemoved(t *testing.T) {
	s := sitetest.Of(t, model(t, "1"))
	f := follow.Options{Dir: t.TempDir(), Keep: 1}
	path := filepath.Join(f.Dir, "v1", "model")
	require.NoError(t, os.CopyFS(path, os.DirFS(model(t, "1"))))
	require.NoError(t, os.MkdirAll(filepath.Join(path, "sub", "none"), 0o700))
	assert.Equal(t, []string{path}, deliver(t, s, f, 1))
	assert.Empty(t, s.ShardsAsked())
	publishTree(t, s, model(t, "2"))
	deliver(t, s, f, 1)
	assert.Equal(t, modelOf("1"), found(t, path))
}

func TestOnePlaceForAllTrees(t *testing.T) {
	for name, tc := range map[string]struct {
		keep  int
		other string // a file that another program puts into the directory of v1
		want  string
		holds string
	}{
		"one is kept":               {1, "", "+v2", "2"},
		"two are kept":              {2, "", "-v2", "1"},
		"another program's file":    {1, "sub/mine", "-v2", "1"},
		"another program's content": {1, "config.json", "-v2", "mine"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sitetest.Of(t, model(t, "1"))
			f := follow.Options{Dir: t.TempDir(), Keep: tc.keep, Template: "current", Link: "latest"}
			path := deliver(t, s, f, 1)[0]
			if tc.other != "" {
				require.NoError(t, os.WriteFile(filepath.Join(path, tc.other), []byte("mine"), 0o600))
			}
			publishTree(t, s, model(t, "2"))
			assert.Equal(t, []string{tc.want}, versionsOf(t, s, f, 1))
			assertFiles(t, f.Dir, map[string][]byte{".shardcast-follow": nil, "current": nil, "latest": nil})
			assert.Equal(t, tc.holds, found(t, path)["config.json"])
			if tc.other == "sub/mine" {
				assert.FileExists(t, filepath.Join(path, tc.other))
			}
		})
	}
}

func TestATreeThatTookAPlaceJustBeforeACrashIsNotFetchedAgain(t *testing.T) {
	s := sitetest.Of(t, model(t, "1"))
	f := follow.Options{Dir: t.TempDir(), Keep: 1, Template: "current"}
	deliver(t, s, f, 1)
	var old any
	rewrite(t, f.Dir, func(record map[string]any) { old = record["held"] })
	publishTree(t, s, model(t, "2"))
	path := deliver(t, s, f, 1)[0]
	s.ShardsAsked()
	part := filepath.Join(f.Dir, ".current.shardcast-part")
	require.NoError(t, os.MkdirAll(filepath.Join(part, "tree"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(part, "lock"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(part, "tree", "config.json"), []byte("1"), 0o600))
	rewrite(t, f.Dir, func(record map[string]any) {
		held, _ := record["held"].([]any)
		begun, _ := held[0].(map[string]any)
		begun["delivered"] = false
		record["held"], record["begun"], record["last"] = old, begun, 1
	})
	assert.Equal(t, []string{path}, deliver(t, s, f, 1))
	assert.Equal(t, modelOf("2"), found(t, path))
	assert.Empty(t, s.ShardsAsked())
	assertFiles(t, f.Dir, map[string][]byte{".shardcast-follow": nil, "current": nil})
}
