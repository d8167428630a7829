//go:build unix

package store

import (
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// owner returns the user and the group that info belongs to.
func owner(info fs.FileInfo) (uid, gid int) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0
	}
	return int(stat.Uid), int(stat.Gid)
}

// ownerOf returns the name of the owner of info, or their number if they have none.
func ownerOf(info fs.FileInfo) string {
	uid, _ := owner(info)
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// isForeignToRoot reports whether this process is root's, and info another user's.
func isForeignToRoot(info fs.FileInfo) bool {
	uid, _ := owner(info)
	return os.Geteuid() == 0 && uid != 0
}

// isRootsAlone reports whether info is root's, and no file that has another name elsewhere:
// the owner of the directory might have put a hard link there.
func isRootsAlone(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == 0 && (info.IsDir() || info.Mode().IsRegular() && stat.Nlink == 1)
}
