package client_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/client/sitetest"
	"github.com/shardcast/shardcast/internal/fetch"
)

// fileSize in bytes is that of each file of thirty, several shards and a part of one.
const fileSize = 3300

// thirty makes a directory of thirty files, of which those in changed differ from others.
func thirty(t *testing.T, changed map[int][]byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	require.NoError(t, os.Mkdir(dir, 0o755))
	for i := range 30 {
		data, ok := changed[i]
		if !ok {
			data = content(byte(i), fileSize)
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%02d", i)), data, 0o644))
	}
	return dir
}

// fetchTwo downloads v1 of s, and then v2 with v1 as a seed, and with its record if that is
// set. It returns how the second one went, and its path.
func fetchTwo(t *testing.T, s *site, recorded bool) (fetch.Progress, string) {
	t.Helper()
	c, dir := newClient(t, s), t.TempDir()
	find(t, c)
	first := client.Download{Entry: offered(t, s)[0], Path: filepath.Join(dir, "first")}
	second := client.Download{Entry: offered(t, s)[1], Path: filepath.Join(dir, "second")}
	second.Seeds = []client.Seed{{Path: first.Path}}
	if recorded {
		first.Record = filepath.Join(dir, "record")
		second.Seeds[0].Record = first.Record
	}
	_, _, err := c.Download(t.Context(), first)
	require.NoError(t, err)
	_, went, err := c.Download(t.Context(), second)
	require.NoError(t, err)
	assert.Equal(t, went.Size, went.Resumed+went.Received-went.Wasted)
	return went, second.Path
}

func TestFilesThatASeedHasAreNotFetched(t *testing.T) {
	for name, changed := range map[string][]byte{
		"one file changes": content(99, fileSize),
		"one file grows":   append(content(7, fileSize), content(99, 1500)...),
		"one file shrinks": content(7, 1000),
	} {
		for _, recorded := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, recorded=%v", name, recorded), func(t *testing.T) {
				to := thirty(t, map[int][]byte{7: changed})
				went, path := fetchTwo(t, sitetest.Of(t, thirty(t, nil), to), recorded)
				assert.Equal(t, read(t, to), read(t, path))
				assert.LessOrEqual(t, went.Received, int64(len(changed)+2*shardSize))
			})
		}
	}
}

func TestShardsThatASeedHasAreNotFetched(t *testing.T) {
	before := content(1, 20*shardSize)
	for name, tc := range map[string]struct {
		after []byte
		most  int64
	}{
		"equal":                     {before, 0},
		"one byte changes":          {slices.Concat(before[:7001], []byte("x"), before[7002:]), shardSize},
		"it grows at its end":       {slices.Concat(before, []byte("x")), 1},
		"a shard comes in between":  {slices.Concat(before[:5000], content(2, 1000), before[5000:]), shardSize},
		"the first half is missing": {before[10*shardSize:], 0},
	} {
		for _, recorded := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, recorded=%v", name, recorded), func(t *testing.T) {
				went, path := fetchTwo(t, newSite(t, before, tc.after), recorded)
				got, err := os.ReadFile(path)
				require.NoError(t, err)
				assert.Equal(t, digestOf(tc.after), digestOf(got))
				assert.LessOrEqual(t, went.Received, tc.most)
			})
		}
	}
}

func TestAFileIsFoundInADirectoryAndADirectoryInAFile(t *testing.T) {
	data := content(1, 10*shardSize)
	dir := filepath.Join(t.TempDir(), "model")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "weights.bin"), data, 0o644))
	file := filepath.Join(t.TempDir(), "weights.bin")
	require.NoError(t, os.WriteFile(file, data, 0o644))
	for name, paths := range map[string][]string{"file, tree": {file, dir}, "tree, file": {dir, file}} {
		for _, recorded := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, recorded=%v", name, recorded), func(t *testing.T) {
				went, _ := fetchTwo(t, sitetest.Of(t, paths...), recorded)
				assert.LessOrEqual(t, went.Received, int64(2*shardSize))
			})
		}
	}
}

func TestASeedThatLiesCostsOnlyTheFetch(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"other bytes": func(path string) error { return os.WriteFile(path, content(98, fileSize), 0o644) },
		"shorter":     func(path string) error { return os.Truncate(path, 100) },
		"gone":        os.Remove,
		"a directory": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Mkdir(path, 0o755)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := sitetest.Of(t, thirty(t, nil), thirty(t, map[int][]byte{7: content(99, fileSize)}))
			c, dir := newClient(t, s), t.TempDir()
			find(t, c)
			d := client.Download{
				Entry: offered(t, s)[0], Path: filepath.Join(dir, "first"), Record: filepath.Join(dir, "record"),
			}
			_, _, err := c.Download(t.Context(), d)
			require.NoError(t, err)
			require.NoError(t, spoil(filepath.Join(dir, "first", "f20")))
			d = client.Download{
				Entry: offered(t, s)[1], Path: filepath.Join(dir, "second"),
				Seeds: []client.Seed{{Path: d.Path, Record: d.Record}},
			}
			_, went, err := c.Download(t.Context(), d)
			require.NoError(t, err)
			assert.Equal(t, read(t, thirty(t, map[int][]byte{7: content(99, fileSize)})), read(t, d.Path))
			assert.LessOrEqual(t, went.Received, int64(2*(fileSize+2*shardSize)))
		})
	}
}

func TestADirectoryThatIsReplacedIsASeed(t *testing.T) {
	to := thirty(t, map[int][]byte{7: content(99, fileSize)})
	s, dir := sitetest.Of(t, thirty(t, nil), to), t.TempDir()
	c := newClient(t, s)
	find(t, c)
	var went fetch.Progress
	for _, e := range offered(t, s) {
		var err error
		_, went, err = c.Download(t.Context(), client.Download{Entry: e, Dir: dir})
		require.NoError(t, err)
	}
	assert.Equal(t, read(t, to), read(t, filepath.Join(dir, "model")))
	assert.LessOrEqual(t, went.Received, int64(fileSize+2*shardSize))
}
