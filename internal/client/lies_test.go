package client_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/client/sitetest"
	"github.com/shardcast/shardcast/internal/fetch"
)

// replaced returns a change of a list.
func replaced(old, by string) func(string) string {
	return func(list string) string { return strings.ReplaceAll(list, old, by) }
}

// lies are changes of the list of the files of [model], and what is said of them.
var lies = map[string]struct {
	change func(list string) string
	err    string
}{
	"a path that escapes": {replaced("config.json", "../config"), `"../config": the path has the element ".."`},
	"an absolute path":    {replaced("config.json", "/etc/motd"), `"/etc/motd": the path begins or ends with a slash`},
	"a path through a file": {
		replaced(`"run.sh"`, `"config.json/sh"`),
		`"config.json/sh": lies in "config.json", which is a file`,
	},
	"a path twice": {replaced("part1", "part0"), `"sub/part0.bin": stands behind "sub/part0.bin", and paths ascend`},
	"a path in the wrong place": {
		replaced("sub/part1", "part1"),
		`"part1.bin": stands behind "sub/part0.bin", and paths ascend`,
	},
	"contents that overlap": {replaced(`"size":2500`, `"size":2600`), `"sub/part1.bin": offset`},
	"an offset":             {replaced(`"offset":512,`, `"offset":513,`), `"config.json": offset 513 instead of 512`},
	"a negative size":       {replaced(`"size":9,`, `"size":-9,`), `"run.sh": size -9 is out of range`},
	"a size near 2^63": {
		replaced(`"size":9,`, `"size":9223372036854775807,`),
		`"run.sh": size 9223372036854775807 is out of range`,
	},
	"a million paths": {
		func(string) string { return strings.Repeat("{}\n", 1_000_000) },
		"bad manifest: 1000000 files in a list of 3000000 bytes; at most 100000",
	},
	"another directory": {
		func(string) string { return `{"path":"logs","directory":true}` + "\n" },
		"its files make 1536 bytes, and the manifest states ",
	},
	"another name":   {replaced("config.json", "config.jsom"), `something else in the place of "config.jsom"`},
	"another mode":   {replaced(`,"executable":true`, ""), `something else in the place of "run.sh"`},
	"exchanged ends": {exchanged, `something else in the place of "config.json"`},
}

// exchanged takes a byte of one file for another one's, so that the whole is as long as before.
func exchanged(list string) string {
	list = strings.Replace(list, `"size":2,"offset":512`, `"size":3,"offset":512`, 1)
	return strings.Replace(list, `"size":9,`, `"size":8,`, 1)
}

func TestAListOfFilesThatLiesIsRefusedByItsServerAndPath(t *testing.T) {
	t.Parallel()
	for name, tc := range lies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			liar := sitetest.Lying(t, sitetest.Of(t, model(t, "{}")), tc.change)
			dir := t.TempDir()
			c := newClient(t, liar)
			_, _, err := c.Download(t.Context(), client.Download{
				Entry: find(t, c), Path: filepath.Join(dir, "a", "out"),
			})
			require.ErrorIs(t, err, fetch.ErrIntegrity)
			require.ErrorContains(t, err, tc.err)
			require.ErrorContains(t, err, liar.URL)
			assert.NotContains(t, err.Error(), "\n")
			assert.Subset(t, []string{"a"}, names(t, dir))
			if len(names(t, dir)) > 0 {
				assert.Subset(t, []string{".out.shardcast-part"}, names(t, filepath.Join(dir, "a")))
			}
		})
	}
}

func TestAListOfFilesThatLiesIsNotTheOneOfAnotherServer(t *testing.T) {
	t.Parallel()
	for name, tc := range lies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from := model(t, "{}")
			honest := sitetest.Of(t, from)
			liar := sitetest.Lying(t, honest, tc.change)
			var log bytes.Buffer
			c := nodeOf(sitetest.Pool(t, liar, honest), slog.New(slog.NewTextHandler(&log, nil)))
			dir := t.TempDir()
			_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Dir: dir})
			require.NoError(t, err)
			assert.Equal(t, read(t, from), read(t, filepath.Join(dir, "model")))
			assert.Equal(t, []string{"model"}, names(t, dir))
		})
	}
}

func TestAListThatTheManifestDoesNotDescribeComesFromAnotherServer(t *testing.T) {
	t.Parallel()
	from := model(t, "{}")
	honest := sitetest.Of(t, from)
	mistaken := sitetest.Serve(t, honest.WithText(map[string]string{"/v1/files.jsonl": "{}\n"}))
	c := newClient(t, mistaken)
	d := client.Download{Entry: find(t, c), Dir: t.TempDir()}
	_, _, err := c.Download(t.Context(), d)
	require.ErrorIs(t, err, fetch.ErrIntegrity)
	require.ErrorContains(t, err, mistaken.URL+": bad list of files: wrong digest: 3 bytes or more instead of")

	c = newClient(t, mistaken, honest)
	d.Entry = find(t, c)
	_, _, err = c.Download(t.Context(), d)
	require.NoError(t, err)
	assert.Equal(t, read(t, from), read(t, filepath.Join(d.Dir, "model")))
}

// A server that sends wrong headers is to blame for the shard, and the list is not.
func TestWrongHeadersOfOneServerAreNotTheListsFault(t *testing.T) {
	t.Parallel()
	from := model(t, "{}")
	honest := sitetest.Of(t, from)
	bad := sitetest.Serve(t, honest.WithText(nil))
	bad.SpoilShard("shard_001.bin", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, strings.Repeat("x", shardSize))
	})
	c := newClient(t, bad)
	_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Dir: t.TempDir()})
	require.ErrorIs(t, err, fetch.ErrIntegrity)
	require.ErrorContains(t, err, bad.URL+": shard 1: wrong digest")

	c = newClient(t, bad, honest)
	dir := t.TempDir()
	_, _, err = c.Download(t.Context(), client.Download{Entry: find(t, c), Dir: dir})
	require.NoError(t, err)
	assert.Equal(t, read(t, from), read(t, filepath.Join(dir, "model")))
}

// stripped returns a site that offers what s does, with a manifest as a server of before there
// were trees passes it on.
func stripped(t *testing.T, s *site) *site {
	t.Helper()
	var manifest map[string]any
	require.NoError(t, json.Unmarshal(s.Get(t, "/v1/manifest.json"), &manifest))
	delete(manifest, "files")
	text, err := json.Marshal(manifest)
	require.NoError(t, err)
	return sitetest.Serve(t, s.WithText(map[string]string{"/v1/manifest.json": string(text)}))
}

func TestADirectoryIsOneAlsoBesideServersThatKnowNone(t *testing.T) {
	t.Parallel()
	from := model(t, "{}")
	honest := sitetest.Of(t, from)
	c := newClient(t, stripped(t, honest), stripped(t, honest), stripped(t, honest), honest)
	dir := t.TempDir()
	_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Dir: dir})
	require.NoError(t, err)
	assert.Equal(t, read(t, from), read(t, filepath.Join(dir, "model")))
}

func TestBehindServersThatKnowNoDirectoriesOneIsATar(t *testing.T) {
	t.Parallel()
	honest := sitetest.Of(t, model(t, "{}"))
	c := newClient(t, stripped(t, honest))
	dir := t.TempDir()
	_, _, err := c.Download(t.Context(), client.Download{Entry: find(t, c), Path: filepath.Join(dir, "model.tar")})
	require.NoError(t, err)
	assertFiles(t, dir, map[string][]byte{"model.tar": honest.Get(t, "/v1/stream")})
}
