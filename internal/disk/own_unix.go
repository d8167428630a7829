//go:build unix

package disk

import (
	"io/fs"
	"os"
	"syscall"
)

// Links is the number of hard links of a file.
func Links(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(stat.Nlink) //nolint:unconvert // it has other types on other systems
	}
	return 1
}

// isOurs reports whether info belongs to the user of this process.
func isOurs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return !ok || int64(stat.Uid) == int64(os.Geteuid())
}

// sameOwner reports whether both belong to one user.
func sameOwner(a, b fs.FileInfo) bool {
	x, ok := a.Sys().(*syscall.Stat_t)
	y, also := b.Sys().(*syscall.Stat_t)
	return ok && also && x.Uid == y.Uid
}

// keepOwner gives f the owner and the group of info, as far as this process may, and reports
// whether it has that group now.
func keepOwner(f *os.File, info fs.FileInfo) bool {
	now, err := f.Stat()
	if err != nil {
		return false
	}
	is, ok := now.Sys().(*syscall.Stat_t)
	want, also := info.Sys().(*syscall.Stat_t)
	if !ok || !also || is.Uid == want.Uid && is.Gid == want.Gid {
		return true
	}
	return f.Chown(int(want.Uid), int(want.Gid)) == nil || is.Gid == want.Gid || f.Chown(-1, int(want.Gid)) == nil
}

// mayReplace reports whether this process may give the name of the file info in dir to another
// file, as far as a sticky directory is concerned.
func mayReplace(dir, info fs.FileInfo) bool {
	return dir.Mode()&fs.ModeSticky == 0 || os.Geteuid() == 0 || isOurs(info) || isOurs(dir)
}
