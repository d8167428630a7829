package store_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

func TestAShardOfAnotherVersionIsNeverWrittenTo(t *testing.T) {
	shard1 := textOf(1)[:16]
	for name, change := range map[string]func(t *testing.T, d *store.Draft){
		"a write": func(t *testing.T, d *store.Draft) {
			t.Helper()
			p, err := d.Open(1, 16)
			require.NoError(t, err)
			there, err := p.Written(16)
			require.NoError(t, err)
			assert.Equal(t, []disk.Range{{To: 16}}, there)
			_, err = p.WriteAt([]byte("x"), 3)
			require.NoError(t, err)
			_, err = p.WriteAt([]byte("y"), 4)
			require.NoError(t, err)
			got := make([]byte, 2)
			_, err = p.ReadAt(got, 3)
			require.NoError(t, err)
			assert.Equal(t, "xy", string(got))
			require.NoError(t, p.Close())
		},
		"a copy": func(t *testing.T, d *store.Draft) {
			t.Helper()
			p, err := d.Open(1, 16)
			require.NoError(t, err)
			src, err := os.Open("part_test.go")
			require.NoError(t, err)
			require.NoError(t, p.CopyAt(src, 0, 0, 16))
			require.NoError(t, src.Close())
			require.NoError(t, p.Close())
		},
		"a smaller shard": func(t *testing.T, d *store.Draft) {
			t.Helper()
			p, err := d.Open(1, 7)
			require.NoError(t, err)
			there, err := p.Written(7)
			require.NoError(t, err)
			assert.Empty(t, there)
			require.NoError(t, p.Close())
		},
		"a new file": func(t *testing.T, d *store.Draft) {
			t.Helper()
			w, err := d.Create(1)
			require.NoError(t, err)
			_, err = w.Write([]byte("new"))
			require.NoError(t, err)
			require.NoError(t, w.Commit())
		},
		"its removal": func(t *testing.T, d *store.Draft) {
			t.Helper()
			require.NoError(t, d.Discard())
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := open(t, dir, store.Middle)
			publish(t, st, 5)
			d, err := st.Draft(2)
			require.NoError(t, err)
			require.NoError(t, d.Link(1, 1, 1))
			change(t, d)
			assert.True(t, strings.HasPrefix(read(t, dir, "v1/shard_001.bin"), shard1))
			requireWhole(t, st, 1)
		})
	}
}

func TestADraftLinksOnlyShardsThatAreThere(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Middle)
	publish(t, st, 5)
	d, err := st.Draft(2)
	require.NoError(t, err)
	require.ErrorIs(t, d.Link(1, 1, 99), fs.ErrNotExist)
	require.ErrorIs(t, d.Link(1, 9, 1), fs.ErrNotExist)
	require.NoError(t, os.Symlink(shard.FileName(1), filepath.Join(dir, "v1", shard.FileName(98))))
	require.ErrorIs(t, d.Link(1, 1, 98), fs.ErrNotExist)
	require.NoError(t, d.Link(1, 1, 1))
	require.ErrorIs(t, d.Link(1, 1, 2), fs.ErrExist)
}
