//go:build unix

package disk_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/shardcast/shardcast/internal/disk"
)

// plant makes "name" in dir in one of the ways of another user who wants this process to write
// to the file victim.
type plant func(t *testing.T, dir, victim string)

// plants are those that a process must not write to, with the reason that it gives.
var plants = map[string]struct {
	plant plant
	why   string
}{
	"a link": {func(t *testing.T, dir, victim string) {
		t.Helper()
		require.NoError(t, os.Symlink(victim, filepath.Join(dir, "name")))
	}, "it is a symbolic link"},
	"a link within the directory": {func(t *testing.T, dir, _ string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "inside"), []byte("precious"), 0o600))
		require.NoError(t, os.Symlink("inside", filepath.Join(dir, "name")))
	}, "it is a symbolic link"},
	"a link to nothing": {func(t *testing.T, dir, victim string) {
		t.Helper()
		require.NoError(t, os.Symlink(victim+" that is missing", filepath.Join(dir, "name")))
	}, "it is a symbolic link"},
	"a hard link": {func(t *testing.T, dir, victim string) {
		t.Helper()
		require.NoError(t, os.Link(victim, filepath.Join(dir, "name")))
	}, "it has 2 hard links"},
	"a pipe": {func(t *testing.T, dir, _ string) {
		t.Helper()
		require.NoError(t, unix.Mkfifo(filepath.Join(dir, "name"), 0o600))
	}, "it is not a regular file"},
	"a directory": {func(t *testing.T, dir, _ string) {
		t.Helper()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "name"), 0o700))
	}, "it is a directory"},
	"a file that all may write to": {func(t *testing.T, dir, _ string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "name"), nil, 0o600))
		require.NoError(t, os.Chmod(filepath.Join(dir, "name"), 0o666))
	}, "others may write to it (mode 0666)"},
	"another user's file": {func(t *testing.T, dir, _ string) {
		t.Helper()
		if os.Geteuid() != 0 {
			t.Skip("only root can give a file away")
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, "name"), nil, 0o600))
		require.NoError(t, os.Chown(filepath.Join(dir, "name"), 65534, 65534))
	}, "it belongs to another user; give it to this one with chown -R"},
}

func TestNothingIsOpenedThatAnotherUserHasPlanted(t *testing.T) {
	for name, tc := range plants {
		t.Run(name, func(t *testing.T) {
			dir, root := newRoot(t)
			require.NoError(t, os.Chmod(dir, fs.ModeSticky|0o777)) // as /tmp is
			elsewhere := t.TempDir()
			write(t, elsewhere, "victim", "precious")
			tc.plant(t, dir, filepath.Join(elsewhere, "victim"))
			before := names(t, dir)

			_, err := disk.OpenOwn(root, "name", 0o600)
			require.ErrorIs(t, err, disk.ErrForeign)
			require.ErrorContains(t, err, filepath.Join(dir, "name")+" is not safe to use: "+tc.why)
			_, err = disk.Lock(t.Context(), root, "name")
			require.ErrorIs(t, err, disk.ErrForeign)
			_, err = disk.Resume(t.Context(), root, "name", "final")
			require.ErrorIs(t, err, disk.ErrForeign)
			if f, err := disk.Create(root, "name", "final", 0o600); err == nil {
				_, err = f.WriteString("harmless")
				require.NoError(t, err)
				require.NoError(t, f.Commit())
				assert.Equal(t, "harmless", read(t, dir, "final"))
				info, err := os.Lstat(filepath.Join(dir, "final"))
				require.NoError(t, err)
				assert.Equal(t, fs.FileMode(0o600), info.Mode())
			} else {
				assert.Equal(t, before, names(t, dir))
			}
			assert.Equal(t, []string{"victim"}, names(t, elsewhere))
			assert.Equal(t, "precious", read(t, elsewhere, "victim"))
			if _, err := os.Stat(filepath.Join(dir, "inside")); err == nil {
				assert.Equal(t, "precious", read(t, dir, "inside"))
			}
		})
	}
}

func TestOwnFilesAreOpenedWithTheirBytes(t *testing.T) {
	for name, mode := range map[string]fs.FileMode{
		"of a directory of one's own":            0o755,
		"of a directory of a group":              0o775 | fs.ModeSetgid,
		"where all may write, as on a USB stick": 0o777,
	} {
		t.Run(name, func(t *testing.T) {
			dir, root := newRoot(t)
			write(t, dir, "name", "old bytes")
			require.NoError(t, os.Chmod(dir, mode))
			require.NoError(t, os.Chmod(filepath.Join(dir, "name"), mode.Perm()))
			f, err := disk.OpenOwn(root, "name", 0o600)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			assert.Equal(t, "old bytes", read(t, dir, "name"))
		})
	}
}

// With sudo, in the directory of a service: its files are as safe as the directory.
func TestRootOpensFilesOfTheDirectorysOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir, root := newRoot(t)
	write(t, dir, "name", "old bytes")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "private"), 0o700))
	for _, name := range []string{".", "name", "private"} {
		require.NoError(t, os.Chown(filepath.Join(dir, name), 65534, 65534))
	}
	f, err := disk.Lock(t.Context(), root, "name")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, disk.MakePrivate(root, "private"))
}

func TestOnlyRegularFilesAreRead(t *testing.T) {
	for _, kind := range []string{"a link", "a link to nothing", "a pipe", "a directory"} {
		t.Run(kind, func(t *testing.T) {
			dir, root := newRoot(t)
			write(t, dir, "victim", "precious")
			plants[kind].plant(t, dir, filepath.Join(dir, "victim"))
			_, err := disk.OpenRegular(root, "name")
			require.ErrorIs(t, err, disk.ErrForeign)
		})
	}
	_, root := newRoot(t)
	_, err := disk.OpenRegular(root, "name")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestAPrivateDirectoryIsOneOfOurs(t *testing.T) {
	dir, root := newRoot(t)
	for range 2 {
		require.NoError(t, disk.MakePrivate(root, "private"))
	}
	info, err := os.Lstat(filepath.Join(dir, "private"))
	require.NoError(t, err)
	assert.Equal(t, fs.ModeDir|0o700, info.Mode())

	require.NoError(t, os.Chmod(filepath.Join(dir, "private"), 0o777))
	require.ErrorIs(t, disk.MakePrivate(root, "private"), disk.ErrForeign)
	require.NoError(t, os.Symlink("private", filepath.Join(dir, "link")))
	require.ErrorContains(t, disk.MakePrivate(root, "link"), "it is a symbolic link")
	write(t, dir, "file", "")
	require.ErrorContains(t, disk.MakePrivate(root, "file"), "it is a file")
}

func TestALockIsTakenOnce(t *testing.T) {
	_, root := newRoot(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		first, second func(context.Context, *os.Root, string) (*os.File, error)
		want          error
	}{
		"two":              {disk.Lock, disk.Lock, disk.ErrLocked},
		"beside a shared":  {disk.LockShared, disk.Lock, disk.ErrLocked},
		"shared beside it": {disk.Lock, disk.LockShared, disk.ErrLocked},
		"both shared":      {disk.LockShared, disk.LockShared, nil},
	} {
		t.Run(name, func(t *testing.T) {
			first, err := tc.first(ended, root, "lock")
			require.NoError(t, err)
			second, err := tc.second(ended, root, "lock")
			require.ErrorIs(t, err, tc.want)
			if err == nil {
				require.NoError(t, second.Close())
			}
			require.NoError(t, first.Close())
			third, err := disk.Lock(ended, root, "lock")
			require.NoError(t, err, "after the end of the first")
			require.NoError(t, third.Close())
		})
	}
}

func TestACommittedFileHasThePermissionsOfTheOldOne(t *testing.T) {
	mask := fs.FileMode(unix.Umask(0o022)) // as all of this process's
	unix.Umask(int(mask))
	for _, old := range []fs.FileMode{0, 0o600, 0o444, 0o640, 0o666, 0o755} {
		t.Run(strconv.FormatUint(uint64(old), 8), func(t *testing.T) {
			dir, root := newRoot(t)
			want := 0o666 &^ mask
			if old != 0 {
				want = old
				write(t, dir, "final", "old")
				require.NoError(t, os.Chmod(filepath.Join(dir, "final"), old))
			}
			if old == 0o640 && os.Geteuid() == 0 {
				require.NoError(t, os.Chown(filepath.Join(dir, "final"), 65534, 65533))
			}
			for range 2 {
				f, err := disk.Resume(t.Context(), root, "temp", "final")
				require.NoError(t, err)
				info, err := f.Stat()
				require.NoError(t, err)
				assert.Equal(t, fs.FileMode(0o600), info.Mode(), "private while it arrives")
				require.NoError(t, f.Commit())
				info, err = os.Lstat(filepath.Join(dir, "final"))
				require.NoError(t, err)
				assert.Equal(t, want, info.Mode())
				if old == 0o640 && os.Geteuid() == 0 {
					var st unix.Stat_t
					require.NoError(t, unix.Stat(filepath.Join(dir, "final"), &st))
					assert.Equal(t, [2]uint32{65534, 65533}, [2]uint32{st.Uid, st.Gid})
				}
			}
		})
	}
}

func TestAPlaceThatCannotBeTakenIsRefused(t *testing.T) {
	dir, root := newRoot(t)
	write(t, dir, "file", "old")
	write(t, dir, "directory/file", "")
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	require.NoError(t, disk.CheckPlace(root, "file"))
	require.NoError(t, disk.CheckPlace(root, "new"))
	require.ErrorContains(t, disk.CheckPlace(root, "directory"), "it is a directory")
	require.ErrorContains(t, disk.CheckPlace(root, "pipe"), "it is not a regular file")
	long := make([]byte, 256)
	for i := range long {
		long[i] = 'x'
	}
	require.ErrorIs(t, disk.CheckPlace(root, string(long)), unix.ENAMETOOLONG)
	require.NoError(t, disk.CheckPlace(root, string(long[:255])))
}
