//go:build linux

package disk_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
)

// sparse returns an empty file of size bytes, and the unit of its holes.
func sparse(t *testing.T, size int64) (f *os.File, block int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.Close()) })
	require.NoError(t, f.Truncate(size))
	if written, err := disk.Written(f, 0, size); err != nil || len(written) > 0 {
		t.Skip("this file system has no holes")
	}
	return f, 4096
}

func fill(t *testing.T, f *os.File, from, to int64) {
	t.Helper()
	data := make([]byte, to-from)
	for i := range data {
		data[i] = 'x'
	}
	_, err := f.WriteAt(data, from)
	require.NoError(t, err)
}

func TestWrittenFindsHoles(t *testing.T) {
	const size = 100 * 4096
	for name, tc := range map[string]struct {
		fill     [][2]int64 // in blocks
		from, to int64      // in blocks
		want     []disk.Range
	}{
		"nothing":   {nil, 0, 100, nil},
		"all":       {[][2]int64{{0, 100}}, 0, 100, []disk.Range{{From: 0, To: 100}}},
		"the begin": {[][2]int64{{0, 10}}, 0, 100, []disk.Range{{From: 0, To: 9}}},
		"the end":   {[][2]int64{{90, 100}}, 0, 100, []disk.Range{{From: 91, To: 100}}},
		"two parts": {
			[][2]int64{{0, 10}, {50, 60}},
			0, 100,
			[]disk.Range{{From: 0, To: 9}, {From: 51, To: 59}},
		},
		"too little to count": {[][2]int64{{50, 52}}, 0, 100, nil},
		"around the range":    {[][2]int64{{0, 100}}, 20, 30, []disk.Range{{From: 0, To: 10}}},
		"before it":           {[][2]int64{{0, 20}}, 20, 30, nil},
		"into it":             {[][2]int64{{0, 25}}, 20, 30, []disk.Range{{From: 0, To: 4}}},
		"out of it":           {[][2]int64{{25, 40}}, 20, 30, []disk.Range{{From: 6, To: 10}}},
	} {
		t.Run(name, func(t *testing.T) {
			f, block := sparse(t, size)
			for _, r := range tc.fill {
				fill(t, f, r[0]*block, r[1]*block)
			}
			got, err := disk.Written(f, tc.from*block, tc.to*block)
			require.NoError(t, err)
			for i := range got {
				got[i].From, got[i].To = got[i].From/block, got[i].To/block
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

// A block that is written in part looks like one that is written.
func TestWrittenDoesNotClaimTheRestOfABlock(t *testing.T) {
	f, block := sparse(t, 100*4096)
	fill(t, f, 0, 10*block+1)
	got, err := disk.Written(f, 0, 100*block)
	require.NoError(t, err)
	assert.Equal(t, []disk.Range{{From: 0, To: 10 * block}}, got)
}

func TestNothingIsWrittenBeyondTheEnd(t *testing.T) {
	f, block := sparse(t, 0)
	fill(t, f, 0, 10)
	got, err := disk.Written(f, 0, 100*block)
	require.NoError(t, err)
	assert.Equal(t, []disk.Range{{From: 0, To: 10}}, got)
}
