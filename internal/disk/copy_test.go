package disk_test

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
)

func TestCopyCopiesARangeAndNothingElse(t *testing.T) {
	data := make([]byte, 50_000)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	src := file(t, data)
	for name, tc := range map[string]struct{ to, from, size int64 }{
		"all":                         {0, 0, 50_000},
		"nothing":                     {7, 7, 0},
		"at the same place":           {8192, 8192, 8192},
		"at places that share blocks": {5000, 5000, 30_000},
		"a block apart":               {100, 4196, 20_000},
		"within a block":              {4100, 4100, 10},
		"at any other place":          {1, 3, 40_000},
	} {
		t.Run(name, func(t *testing.T) {
			before := make([]byte, 60_000)
			_, _ = rand.NewChaCha8([32]byte{2}).Read(before)
			dst := file(t, before)
			require.NoError(t, disk.Copy(dst, tc.to, src, tc.from, tc.size))
			want := append([]byte(nil), before...)
			copy(want[tc.to:], data[tc.from:tc.from+tc.size])
			got, err := os.ReadFile(dst.Name())
			require.NoError(t, err)
			assert.Equal(t, want, got)
		})
	}
	require.ErrorIs(t, disk.Copy(file(t, nil), 0, src, 40_000, 20_000), io.ErrUnexpectedEOF)
}

// file returns a file of data, open for reading and writing.
func file(t *testing.T, data []byte) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(name, data, 0o600))
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.Close()) })
	return f
}
