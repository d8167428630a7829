package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBuildingTwiceGivesTheSameBytes(t *testing.T) {
	t.Chdir("../..")
	t.Setenv("SOURCE_DATE_EPOCH", "1767225600")
	// One target and one command: all are built with the same flags.
	target := runtime.GOOS + "/" + runtime.GOARCH
	var dirs []string
	for range 2 {
		dir := t.TempDir()
		r := release{version: "v0.0.0", commands: commands[:1], kinds: []string{archives, wheels}}
		require.NoError(t, r.build(t.Context(), dir, []string{target}))
		// The second build works in another place.
		t.Setenv("TMPDIR", t.TempDir())
		dirs = append(dirs, dir)
	}
	name := "shardcast-v0.0.0-" + runtime.GOOS + "-" + runtime.GOARCH + ".tar.gz"
	wheel := "shardcast_go-0.0.0-py3-none-" + strings.Join(platforms[target], ".") + ".whl"
	for _, name := range []string{name, wheel, "shardcast_go-0.0.0-py3-none-any.whl", "SHA256SUMS"} {
		first, err := os.ReadFile(filepath.Join(dirs[0], name))
		require.NoError(t, err)
		second, err := os.ReadFile(filepath.Join(dirs[1], name))
		require.NoError(t, err)
		assert.NotEmpty(t, first)
		assert.True(t, bytes.Equal(first, second), name)
	}
	checkWheel(t, filepath.Join(dirs[0], wheel))
}

// checkWheel checks what installers want of a wheel with one program.
func checkWheel(t *testing.T, path string) {
	t.Helper()
	wheel, err := zip.OpenReader(path)
	require.NoError(t, err)
	defer func() { _ = wheel.Close() }()
	var names, listed []string
	content := make(map[string]string)
	for _, f := range wheel.File {
		names = append(names, f.Name)
		assert.Equal(t, int64(1767225600), f.Modified.Unix(), f.Name)
		r, err := f.Open()
		require.NoError(t, err)
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		content[f.Name] = string(data)
		if strings.Contains(f.Name, ".data/scripts/") {
			assert.Equal(t, fs.FileMode(0o755), f.Mode(), f.Name)
			assert.Equal(t, "shardcast_go-0.0.0.data/scripts/shardcast-origin", f.Name)
		}
	}
	last := len(names) - 1
	assert.True(t, slices.IsSorted(names[:last]), names)
	assert.Equal(t, "shardcast_go-0.0.0.dist-info/RECORD", names[last])
	for line := range strings.Lines(content[names[last]]) {
		name, rest, _ := strings.Cut(line, ",")
		listed = append(listed, name)
		if name != names[last] {
			sum := sha256.Sum256([]byte(content[name]))
			want := fmt.Sprintf("sha256=%s,%d\n", base64.RawURLEncoding.EncodeToString(sum[:]), len(content[name]))
			assert.Equal(t, want, rest, name)
		}
	}
	assert.Equal(t, names, listed)
	assert.Contains(t, names, "shardcast/py.typed")
	assert.Contains(t, content["shardcast_go-0.0.0.dist-info/WHEEL"], "\nRoot-Is-Purelib: false\nTag: py3-none-")
	assert.Contains(t, content["shardcast_go-0.0.0.dist-info/METADATA"], "\nName: shardcast-go\nVersion: 0.0.0\n")
	assert.Contains(t, content["shardcast/_version.py"], "\n__version__ = \"0.0.0\"\n")
}

func TestVersionsAreWrittenAsPythonWantsThem(t *testing.T) {
	for version, want := range map[string]string{
		"v1.2.3":                  "1.2.3",
		"v1.2.3-4-gabcdef0":       "1.2.3+4.gabcdef0",
		"v1.2.3-4-gabcdef0-dirty": "1.2.3+4.gabcdef0.dirty",
		"abcdef0":                 "0+abcdef0",
		"Next_one-dirty":          "0+next.one.dirty",
	} {
		assert.Equal(t, want, pythonVersion(version))
	}
}

func TestNoArchiveIsBuiltForASystemWhereNothingRuns(t *testing.T) {
	for _, target := range []string{"windows/amd64", "windows/arm64", "linux"} {
		dir := t.TempDir()
		require.ErrorContains(t, release{version: "v0.0.0"}.build(t.Context(), dir, []string{target}), target)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, entries)
	}
}
