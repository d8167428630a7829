package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
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
		require.NoError(t, run(t.Context(), dir, "v0.0.0", []string{target}, commands[:1]))
		// The second build works in another place.
		t.Setenv("TMPDIR", t.TempDir())
		dirs = append(dirs, dir)
	}
	name := "shardcast-v0.0.0-" + runtime.GOOS + "-" + runtime.GOARCH + ".tar.gz"
	for _, name := range []string{name, "SHA256SUMS"} {
		first, err := os.ReadFile(filepath.Join(dirs[0], name))
		require.NoError(t, err)
		second, err := os.ReadFile(filepath.Join(dirs[1], name))
		require.NoError(t, err)
		assert.NotEmpty(t, first)
		assert.True(t, bytes.Equal(first, second), name)
	}
}

func TestNoArchiveIsBuiltForASystemWhereNothingRuns(t *testing.T) {
	for _, target := range []string{"windows/amd64", "windows/arm64", "linux"} {
		dir := t.TempDir()
		require.ErrorContains(t, run(t.Context(), dir, "v0.0.0", []string{target}, nil), target)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, entries)
	}
}
