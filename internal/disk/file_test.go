package disk_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
)

func TestFileHasItsFinalNameOnlyAfterCommit(t *testing.T) {
	dir, root := newRoot(t)
	f := create(t, root, "whole")
	assert.Equal(t, []string{"temp"}, names(t, dir))
	require.NoError(t, f.Commit())
	assert.Equal(t, []string{"final"}, names(t, dir))
	assert.Equal(t, "whole", read(t, dir, "final"))
}

func TestFileKeepsTheOldContentUntilCommit(t *testing.T) {
	dir, root := newRoot(t)
	write(t, dir, "final", "old and longer")
	f := create(t, root, "new")
	assert.Equal(t, "old and longer", read(t, dir, "final"))
	require.NoError(t, f.Commit())
	assert.Equal(t, "new", read(t, dir, "final"))
}

func TestCloseWithoutCommitRemovesTheFile(t *testing.T) {
	dir, root := newRoot(t)
	write(t, dir, "final", "old")
	f := create(t, root, "new")
	require.NoError(t, f.Close())
	assert.Equal(t, []string{"final"}, names(t, dir))
	assert.Equal(t, "old", read(t, dir, "final"))
	require.NoError(t, f.Close(), "a second Close")
	require.Error(t, f.Commit(), "Commit after Close")
	assert.Equal(t, "old", read(t, dir, "final"))
}

func TestCloseAfterCommitDoesNothing(t *testing.T) {
	dir, root := newRoot(t)
	f := create(t, root, "first")
	require.NoError(t, f.Commit())
	next := create(t, root, "second")
	require.NoError(t, f.Close())
	assert.Equal(t, []string{"final", "temp"}, names(t, dir), "the next file of the same names is not touched")
	require.NoError(t, next.Commit())
	assert.Equal(t, "second", read(t, dir, "final"))
}

func TestFailedCommitKeepsTheOldContentAndLeavesNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		final string
		spoil func(t *testing.T, dir string, f *disk.File)
	}{
		"the file cannot be synced": {
			final: "final",
			spoil: func(t *testing.T, _ string, f *disk.File) { require.NoError(t, f.File.Close()) },
		},
		"the final name is a directory": {
			final: "full",
			spoil: func(*testing.T, string, *disk.File) {},
		},
		"the directory of the final name is missing": {
			final: "missing/final",
			spoil: func(*testing.T, string, *disk.File) {},
		},
		"the temporary file was taken away": {
			final: "final",
			spoil: func(t *testing.T, dir string, _ *disk.File) {
				require.NoError(t, os.Remove(filepath.Join(dir, "temp")))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, root := newRoot(t)
			write(t, dir, "final", "old")
			write(t, dir, "full/file", "kept")
			f, err := disk.Create(root, "temp", tc.final, 0o666)
			require.NoError(t, err)
			_, err = f.WriteString("new")
			require.NoError(t, err)
			tc.spoil(t, dir, f)
			require.Error(t, f.Commit())
			_ = f.Close() // it may be closed, or gone
			assert.Equal(t, []string{"final", "full"}, names(t, dir))
			assert.Equal(t, "old", read(t, dir, "final"))
			assert.Equal(t, "kept", read(t, dir, "full/file"))
		})
	}
}

func TestCreateBeginsWithTheFirstByteOfALeftOver(t *testing.T) {
	dir, root := newRoot(t)
	write(t, dir, "temp", "the rest of a killed process")
	require.NoError(t, create(t, root, "new").Commit())
	assert.Equal(t, "new", read(t, dir, "final"))
}

func TestFilesStayInTheirRoot(t *testing.T) {
	dir, root := newRoot(t)
	outside := t.TempDir()
	write(t, outside, "file", "outside")
	for link, target := range map[string]string{
		"link to a file":      filepath.Join(outside, "file"),
		"link to nothing":     filepath.Join(outside, "made"),
		"link to a directory": outside,
	} {
		require.NoError(t, os.Symlink(target, filepath.Join(dir, link)))
	}
	for _, temp := range []string{"../temp", "link to a directory/temp"} {
		_, err := disk.Create(root, temp, "final", 0o666)
		require.Error(t, err, temp)
	}
	for _, temp := range []string{"link to a file", "link to nothing", "link to a directory"} {
		f, err := disk.Create(root, temp, "final", 0o666)
		require.NoError(t, err, "the link goes")
		require.NoError(t, f.Close())
		require.NoError(t, os.Symlink(filepath.Join(outside, "file"), filepath.Join(dir, temp)))
	}
	require.NoError(t, os.Remove(filepath.Join(dir, "link to a directory")))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "link to a directory")))
	for _, final := range []string{"../final", "link to a directory/final"} {
		f, err := disk.Create(root, "temp", final, 0o666)
		require.NoError(t, err)
		require.Error(t, f.Commit(), final)
	}
	require.NoError(t, disk.WriteFile(root, "temp", "link to a file", []byte("inside"), 0o666))
	assert.Equal(t, "inside", read(t, dir, "link to a file"))
	assert.Equal(t, []string{"file"}, names(t, outside))
	assert.Equal(t, "outside", read(t, outside, "file"))
}

func TestWriteFileReplacesTheWholeFile(t *testing.T) {
	for name, data := range map[string]string{
		"nothing": "",
		"shorter": "s",
		"longer":  strings.Repeat("longer", 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			dir, root := newRoot(t)
			for range 2 {
				require.NoError(t, disk.WriteFile(root, "temp", "final", []byte(data), 0o666))
				assert.Equal(t, []string{"final"}, names(t, dir))
				assert.Equal(t, data, read(t, dir, "final"))
				write(t, dir, "final", "old")
			}
		})
	}
}

func TestFailedWriteFileKeepsTheOldContent(t *testing.T) {
	dir, root := newRoot(t)
	write(t, dir, "final", "old")
	write(t, dir, "full/file", "kept")
	require.Error(t, disk.WriteFile(root, "full", "final", []byte("new"), 0o666), "the temporary name is a directory")
	require.Error(t, disk.WriteFile(root, "temp", "full", []byte("new"), 0o666), "the final name is a directory")
	assert.Equal(t, []string{"final", "full"}, names(t, dir))
	assert.Equal(t, "old", read(t, dir, "final"))
	assert.Equal(t, "kept", read(t, dir, "full/file"))
}

func TestSyncDirOfAMissingDirectoryFails(t *testing.T) {
	_, root := newRoot(t)
	require.NoError(t, disk.SyncDir(root, "."))
	require.ErrorIs(t, disk.SyncDir(root, "missing"), fs.ErrNotExist)
}

func TestNeedAcceptsAFileSystemWithoutFigures(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, disk.Need(dir, 0))
	require.NoError(t, disk.Need(dir, 1))
	require.NoError(t, disk.Need(filepath.Join(dir, "missing"), 1<<62))
}

func newRoot(t *testing.T) (dir string, root *os.Root) {
	t.Helper()
	dir = t.TempDir()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { root.Close() })
	return dir, root
}

// create returns the uncommitted file "final", which holds text, and is closed
// with the test at the latest.
func create(t *testing.T, root *os.Root, text string) *disk.File {
	t.Helper()
	f, err := disk.Create(root, "temp", "final", 0o666)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	_, err = f.WriteString(text)
	require.NoError(t, err)
	return f
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(text)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names
}
