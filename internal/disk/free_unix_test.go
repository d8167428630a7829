//go:build linux || darwin

package disk_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
)

func TestNeedRefusesMoreThanThereIsRoomFor(t *testing.T) {
	dir := t.TempDir()
	err := disk.Need(dir, math.MaxInt64)
	require.ErrorIs(t, err, disk.ErrNoSpace)
	require.ErrorContains(t, err, dir)
	require.ErrorContains(t, err, "9223372036854775807 bytes are needed")
}
