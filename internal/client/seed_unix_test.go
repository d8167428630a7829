//go:build unix

package client_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/client/sitetest"
)

func TestWhatIsNoFileOfASeedIsLeftOutWithOneLine(t *testing.T) {
	to := thirty(t, nil)
	s := sitetest.Of(t, to)
	seed := thirty(t, nil)
	require.NoError(t, os.Symlink("f00", filepath.Join(seed, "link")))
	require.NoError(t, os.Symlink("none", filepath.Join(seed, "dangling")))
	require.NoError(t, os.Symlink(".", filepath.Join(seed, "loop")))
	require.NoError(t, os.Mkdir(filepath.Join(seed, ".x.shardcast-part"), 0o755))
	require.NoError(t, unix.Mkfifo(filepath.Join(seed, "pipe"), 0o600))
	left := 4
	if os.Geteuid() != 0 {
		require.NoError(t, os.WriteFile(filepath.Join(seed, "unreadable"), make([]byte, fileSize), 0))
		left++
	}
	var log bytes.Buffer
	c := nodeOf(sitetest.Pool(t, s), slog.New(slog.NewTextHandler(&log, nil)))
	d := client.Download{
		Entry: find(t, c), Path: filepath.Join(t.TempDir(), "out"),
		Seeds: []client.Seed{{Path: seed}, {Path: filepath.Join(seed, "none")}},
	}
	_, went, err := c.Download(t.Context(), d)
	require.NoError(t, err)
	assert.Equal(t, read(t, to), read(t, d.Path))
	assert.Zero(t, went.Received)
	assert.Equal(t, 1, strings.Count(log.String(), "seed used in part"), log.String())
	assert.Contains(t, log.String(), fmt.Sprintf("left=%d", left))
	assert.Equal(t, 1, strings.Count(log.String(), "seed not used"), log.String())
}
