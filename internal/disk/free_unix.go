//go:build linux || darwin

package disk

import (
	"math"

	"golang.org/x/sys/unix"
)

// Free returns the bytes that an ordinary process may still write below dir.
func Free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	if block := uint64(st.Bsize); block == 0 || st.Bavail > math.MaxInt64/block {
		return math.MaxInt64, nil
	}
	return int64(st.Bavail * uint64(st.Bsize)), nil
}
