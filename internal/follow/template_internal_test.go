package follow

import (
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/partial"
	"github.com/shardcast/shardcast/internal/record"
	"github.com/shardcast/shardcast/internal/shard"
)

// of is the version with this number, name and labels.
func of(version shard.Version, name string, labels map[string]string) subject {
	return subject{version, shard.Manifest{Name: name, Labels: labels}}
}

func TestPathsOfATemplate(t *testing.T) {
	labels := map[string]string{"step": "1200", "run.name": "a b", "name": "{n}", "zeros": "0007"}
	for text, want := range map[string]string{
		DefaultTemplate:                   "v7/{n}.bin",
		"step_{n}/model.safetensors":      "step_7/model.safetensors",
		"{version}":                       "v7",
		"a/{name}/b-{version}-{n}.bin":    "a/{n}.bin/b-v7-7.bin",
		"step_{n:06}":                     "step_000007",
		"step_{label.step:06}/{name}":     "step_001200/{n}.bin",
		"step_{label.step:02}":            "step_1200",
		"{label.zeros:02}{label.zeros}":   "070007",
		"{label.run.name}/{n:01}":         "a b/7",
		"{label.name}":                    "{n}",
		"current":                         "current",
		"{name}":                          "{n}.bin",
		"{label.step}{n}{version}/{name}": "12007v7/{n}.bin",
	} {
		parsed, err := parseTemplate(text)
		require.NoError(t, err, text)
		got, err := parsed.file(of(7, "{n}.bin", labels), "", "")
		require.NoError(t, err, text)
		assert.Equal(t, want, got, "a name from the network is no template")
	}
}

func TestATreeHasItsNameWithoutTheTar(t *testing.T) {
	for name, want := range map[string]string{"model.tar": "v7/model", "model": "v7/model", "../x": "v7/download_v7"} {
		s := of(7, name, nil)
		s.manifest.Files = &shard.Files{}
		got, err := template(DefaultTemplate).file(s, "stable", "latest")
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
}

func TestATemplateThatLeadsElsewhereIsRefused(t *testing.T) {
	for _, text := range []string{
		"", ".", "{version", "version}", "{Version}/{n}", "{n}/{{name}}", "/{n}", "../{n}", "{n}/../..",
		"{n}/..", "{n}/", "a//{n}", "./{n}", `a\{n}`, "{n}\n", record.Hidden + "/{n}", "{n}" + partial.Suffix,
		"{n}\xa0",
		"{n:6}", "{n:0}", "{n:019}", "{version:06}", "{name:06}", "{label}", "{label.}", "{label.1}", "{label.a:b}",
		".{version}" + record.GoneSuffix,
	} {
		_, err := parseTemplate(text)
		assert.Error(t, err, text)
	}
}

func TestLabelsThatMakeNoPathAreRefused(t *testing.T) {
	for _, value := range []string{
		"", ".", "..", "../x", "/etc/passwd", "a/b", `a\b`, ".hidden", "a\nb", "a\x1b[2J", "a\u202eb", "\xff",
		"x" + partial.Suffix, "x" + record.GoneSuffix, strings.Repeat("x", 255), "Stable",
	} {
		_, err := template("{n}/x-{label.x}").file(of(7, "w", map[string]string{"x": value}), "x-stable", "")
		require.ErrorIs(t, err, ErrLabel, value)
	}
	for _, value := range []string{"", "-1", "+1", "1.5", "1e3", "0x10", "a", "1 ", "\u0661"} {
		_, err := template("{label.x:06}").file(of(7, "w", map[string]string{"x": value}), "", "")
		require.ErrorIs(t, err, ErrLabel, value)
	}
	_, err := template("{label.x}").file(of(7, "w", nil), "", "")
	require.ErrorIs(t, err, ErrLabel)
	_, err = template("{label.x}/w").file(of(7, "w", map[string]string{"x": "latest"}), "", "latest")
	require.ErrorIs(t, err, ErrLabel, "the link has this name")
}

func TestAPublishedNameNeverMakesAPathOurs(t *testing.T) {
	for text, published := range map[string]string{
		".{name}/{n}":    "shardcast-follow",
		"{n}/{name}part": "weights.shardcast-",
		"{name}":         "latest",
	} {
		parsed, err := parseTemplate(text)
		require.NoError(t, err, text)
		got, err := parsed.file(of(7, published, nil), "", "latest")
		require.NoError(t, err)
		assert.Equal(t, strings.NewReplacer("{name}", "download_v7.bin", "{n}", "7").Replace(text), got, text)
	}
}

func TestAMarkerIsNotTheFileItself(t *testing.T) {
	require.Error(t, Options{Template: "{n}/weights", Marker: "weights"}.Check())
	require.NoError(t, Options{Template: "{n}/weights", Marker: "stable"}.Check())
}

// A template that is accepted leads each version to a place in the output directory, whatever
// name and label was published.
func FuzzTemplate(f *testing.F) {
	for _, text := range []string{
		DefaultTemplate, "step_{n}/model.safetensors", "{version}", "a/{name}/b-{version}-{n}.bin", ".{name}/{n}",
		"{n}/{name}part", "../{n}", "/{n}", "{n}/..", "{{n}}", "{n}\x00", `{n}\x`, record.Hidden + "/{n}",
		"{n}/{name}/{name}",
		"{label.x}", "{label.x:06}", "{label.x}{label.x}/{name}", ".{label.x}", "{n:06}", "{name}",
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
		labels := map[string]string{"x": published}
		file, err := parsed.file(of(version, published, labels), marker, "latest")
		if err != nil {
			require.ErrorIs(t, err, ErrLabel)
			return
		}
		require.True(t, fs.ValidPath(file), file)
		require.True(t, filepath.IsLocal(file), file)
		require.True(t, client.IsPrintable(file), file)
		require.False(t, record.IsOurs(file), file)
		if strings.Contains(text, "{version}") {
			next, err := parsed.file(of(version+1, published, labels), marker, "latest")
			require.True(t, err != nil || next != file, file) // a longer number may be too long
		}
		if opts := (Options{Template: text, Marker: marker}); marker != "" && opts.Check() == nil {
			require.NotEqual(t, marker, path.Base(file))
		}
	})
}

func TestAHarmlessPublishedNameIsTaken(t *testing.T) {
	for _, name := range []string{"weights.bin", "a b", "ünïcode", "{n}", "-rf", "a.."} {
		assert.Equal(t, name, of(7, name, nil).name("stable"))
	}
	for _, name := range []string{
		"", ".", "..", "../x", "/etc/passwd", `..\x`, "a/b", ".hidden", "stable", "Stable", "a\x00b", "a\nb",
		"a\x1b[2J", "x" + partial.Suffix, strings.Repeat("x", 250), "a\u202eb",
	} {
		got := of(7, name, nil).name("stable")
		assert.Equal(t, "download_v7.bin", got, "%q", name)
		assert.True(t, filepath.IsLocal(got))
	}
}
