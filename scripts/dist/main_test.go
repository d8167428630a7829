package main

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

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

// testTime is any.
var testTime = time.Unix(1767225600, 0).UTC()

func TestZippedFilesMayBeRun(t *testing.T) {
	data, err := zipped([]file{{name: "a/b", mode: 0o755, data: []byte("x")}}, testTime)
	require.NoError(t, err)
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	require.NoError(t, err)
	require.Len(t, r.File, 1)
	assert.Equal(t, os.FileMode(0o755), r.File[0].Mode())
	assert.True(t, r.File[0].Modified.Equal(testTime))
}
