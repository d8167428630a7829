package follow

import (
	"cmp"
	"encoding/json"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

func TestPathsOfATemplate(t *testing.T) {
	for text, want := range map[string]string{
		DefaultTemplate:                "v7/{n}.bin",
		"step_{n}/model.safetensors":   "step_7/model.safetensors",
		"{version}":                    "v7",
		"a/{name}/b-{version}-{n}.bin": "a/{n}.bin/b-v7-7.bin",
	} {
		parsed, err := parseTemplate(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, parsed.path(7, "{n}.bin"), "a name from the network is no template")
	}
}

func TestATemplateThatLeadsElsewhereIsRefused(t *testing.T) {
	for _, text := range []string{
		"", "{name}", "model", "{version", "version}", "{Version}/{n}", "{n}/{{name}}", "/{n}", "../{n}", "{n}/../..",
		"{n}/..", "{n}/", "a//{n}", "./{n}", `a\{n}`, "{n}\n", hidden + "/{n}", "{n}" + client.PartSuffix, "{n}\xa0",
	} {
		_, err := parseTemplate(text)
		assert.Error(t, err, text)
	}
}

func TestAPublishedNameNeverMakesAPathOurs(t *testing.T) {
	for text, published := range map[string]string{
		".{name}/{n}":    "shardcast-follow",
		"{n}/{name}part": "weights.shardcast-",
	} {
		parsed, err := parseTemplate(text)
		require.NoError(t, err, text)
		assert.Equal(t, parsed.path(7, "download_v7.bin"), parsed.file(7, published, ""), text)
	}
}

func TestAMarkerIsNotTheFileItself(t *testing.T) {
	require.Error(t, Options{Template: "{n}/weights", Marker: "weights"}.Check())
	require.NoError(t, Options{Template: "{n}/weights", Marker: "stable"}.Check())
}

// A template that is accepted leads each version to a place of its own in the output
// directory, whatever name was published.
func FuzzTemplate(f *testing.F) {
	for _, text := range []string{
		DefaultTemplate, "step_{n}/model.safetensors", "{version}", "a/{name}/b-{version}-{n}.bin", ".{name}/{n}",
		"{n}/{name}part", "../{n}", "/{n}", "{n}/..", "{{n}}", "{n}\x00", `{n}\x`, hidden + "/{n}", "{n}/{name}/{name}",
	} {
		for _, name := range []string{
			"weights.bin", "..", "../x", "shardcast-follow", "weights.shardcast-", "{n}", "a\x1b[2J", "", "stable",
		} {
			f.Add(text, name, "stable", uint64(7))
		}
	}
	f.Fuzz(func(t *testing.T, text, published, marker string, number uint64) {
		parsed, err := parseTemplate(text)
		if err != nil {
			return
		}
		version := shard.Version(number%uint64(shard.MaxVersion-1) + 1)
		file := parsed.file(version, published, marker)
		require.True(t, fs.ValidPath(file), file)
		require.True(t, filepath.IsLocal(file), file)
		require.True(t, printable(file), file)
		require.False(t, isOurs(file), file)
		require.NotEqual(t, file, parsed.file(version+1, published, marker))
		if opts := (Options{Template: text, Marker: marker}); marker != "" && opts.Check() == nil {
			require.NotEqual(t, marker, path.Base(file))
		}
	})
}

// A record that is accepted names files below the output directory alone.
func FuzzRecord(f *testing.F) {
	for _, text := range []string{
		"", "{}", "null", "[]", `{"last":1e30}`, `{"held":[{"version":1,"path":"../x"}]}`, `{"begun":{"path":"a"}}`,
		`{"last":1,"known":[{"version":1,"digest":"00"}],"held":[{"version":1,"path":"v1/a","marker":"v1/stable"}]}`,
		`{"last":2,"over":true,"held":[],"dirs":["v1"],"link":"latest"}`, `{"dirs":["a/../../b"]}`, `{"link":"/"}`,
		`{"begun":{"version":3,"manifest":{"size":-1,"shard_size":0,"date":"x"},"shard_count":-5,"path":"a"}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseRecord(text)
		if err != nil {
			require.Equal(t, record{}, r)
			return
		}
		for _, file := range r.files() {
			for _, path := range []string{file.Path, cmp.Or(file.Marker, file.Path)} {
				require.True(t, filepath.IsLocal(path) && filepath.Clean(path) == path && path != ".", path)
			}
		}
		for _, path := range append(slices.Clone(r.Dirs), cmp.Or(r.Link, "latest")) {
			require.True(t, filepath.IsLocal(path) && filepath.Clean(path) == path && path != ".", path)
		}
		// It can be written, and is the same then.
		written, err := json.Marshal(r)
		require.NoError(t, err)
		again, err := parseRecord(written)
		require.NoError(t, err)
		twice, err := json.Marshal(again)
		require.NoError(t, err)
		require.JSONEq(t, string(written), string(twice))
		r.learn([]distfile.Entry{{Version: 1}})
		require.LessOrEqual(t, len(r.Known), maxKnown)
	})
}

func TestAHarmlessPublishedNameIsTaken(t *testing.T) {
	for _, name := range []string{"weights.bin", "a b", "ünïcode", "{n}", "-rf", "a.."} {
		assert.Equal(t, name, fileName(7, name, "stable"))
	}
	for _, name := range []string{
		"", ".", "..", "../x", "/etc/passwd", `..\x`, "a/b", ".hidden", "stable", "Stable", "a\x00b", "a\nb",
		"a\x1b[2J", "x" + client.PartSuffix, strings.Repeat("x", 250), "a\u202eb",
	} {
		got := fileName(7, name, "stable")
		assert.Equal(t, "download_v7.bin", got, "%q", name)
		assert.True(t, filepath.IsLocal(got))
	}
}
