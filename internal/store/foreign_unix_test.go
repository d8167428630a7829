//go:build unix

package store_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/store"
)

func TestADistributionThatIsNoRegularFileIsRefusedByName(t *testing.T) {
	for name, plant := range map[string]func(name string) error{
		"a pipe": func(name string) error { return syscall.Mkfifo(name, 0o600) },
		"a link": func(name string) error { return os.Symlink("/etc/hostname", name) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			name := filepath.Join(dir, distfile.FileName)
			require.NoError(t, plant(name))
			st, err := store.Open(dir, store.Origin)
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, st.Close()) })
			_, err = st.Distribution()
			require.ErrorContains(t, err, name+" is not safe to use")
		})
	}
}
