//go:build unix

package disk_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
)

// removing is the variable of a process of another user that removes a directory.
const removing = "SHARDCAST_TEST_REMOVE"

func TestADirectoryThatMayNotBeWrittenToIsRemoved(t *testing.T) {
	if dir := os.Getenv(removing); dir != "" {
		root, err := os.OpenRoot(dir)
		require.NoError(t, err)
		defer root.Close()
		require.NoError(t, disk.RemoveAll(root, "a"))
		require.NoError(t, disk.RemoveAll(root, "missing"))
		return
	}
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "outside"), nil, 0o400))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a", "b", "file"), nil, 0o400))
	require.NoError(t, os.Symlink(dir, filepath.Join(dir, "a", "link")))
	require.NoError(t, os.Chmod(filepath.Join(dir, "a", "b"), 0o500))
	require.NoError(t, os.Chmod(filepath.Join(dir, "a"), 0o500))
	test := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	test.Env = append(os.Environ(), removing+"="+dir)
	if os.Geteuid() == 0 { // root may do it in any case
		for name := dir; name != os.TempDir() && name != "/"; name = filepath.Dir(name) {
			require.NoError(t, os.Chmod(name, 0o755))
		}
		for _, name := range []string{dir, filepath.Join(dir, "a"), filepath.Join(dir, "a", "b")} {
			require.NoError(t, os.Chown(name, 65534, 65534))
		}
		self, err := os.ReadFile(os.Args[0])
		require.NoError(t, err)
		test.Path = filepath.Join(dir, "test")
		require.NoError(t, os.WriteFile(test.Path, self, 0o755))
		test.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		test.Dir = dir
	}
	out, err := test.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.NoDirExists(t, filepath.Join(dir, "a"))
	assert.FileExists(t, filepath.Join(dir, "outside"))
}
