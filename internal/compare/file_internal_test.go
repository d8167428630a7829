package compare

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
)

func TestOnlyWhatMayPassIsAnErrorOfAFileThatIsCompared(t *testing.T) {
	for err, want := range map[error]bool{
		syscall.EMFILE: true, syscall.ENFILE: true, syscall.EIO: true, syscall.EINTR: true,
		syscall.ENOENT: false, syscall.ENOTDIR: false, syscall.EACCES: false, syscall.ELOOP: false,
	} {
		assert.Equal(t, want, passing(&fs.PathError{Op: "open", Path: "file", Err: err}) != nil, err)
	}
	escapes := &fs.PathError{Op: "open", Path: "file", Err: os.ErrInvalid}
	assert.NoError(t, passing(escapes), "the name leads out of the directory")
}

func TestAComparisonEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "out"), make([]byte, 10), 0o600))
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = File{
		Dir: root, Name: "out", Manifest: shard.Manifest{Size: 10}, Logger: slog.New(slog.DiscardHandler),
	}.Run(ended)
	require.ErrorIs(t, err, context.Canceled)
}
