package follow

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/client"
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
		"{n}/..", "{n}/", "a//{n}", "./{n}", `a\{n}`, "{n}\n", hidden + "/{n}", "{n}" + client.PartSuffix,
	} {
		_, err := parseTemplate(text)
		assert.Error(t, err, text)
	}
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
