package store

import (
	"io/fs"
	"path/filepath"
)

// leave logs, once for each name, that the file or directory name cannot be cleaned up for
// the reason err. It blocks nothing new: a number is not used again, and a directory that is
// not listed is not offered.
func (s *Store) leave(name string, err error) {
	if _, logged := s.left.LoadOrStore(name, true); logged {
		return
	}
	owner := "unknown"
	if info, bad := s.root.Lstat(name); bad == nil {
		owner = ownerOf(info)
	}
	s.logger.Warn("not cleaned up", "path", filepath.Join(s.dir, filepath.FromSlash(name)), "owner", owner,
		"err", err, "hint", "remove it as that owner, or give it to the user of this process with chown -R")
}

// giveAway gives the files in and below names that belong to root to the owner of the data
// directory, if this process is root's and that owner is another user: a service that runs as
// that user must be able to lock and to retire what one sudo has made.
func (s *Store) giveAway(names ...string) {
	dir, err := s.root.Stat(".")
	if err != nil || !isForeignToRoot(dir) {
		return
	}
	for _, name := range names {
		_ = fs.WalkDir(s.root.FS(), name, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil //nolint:nilerr // it has gone meanwhile
			}
			if info, err := d.Info(); err == nil && isRootsAlone(info) {
				uid, gid := owner(dir)
				if err := s.root.Lchown(name, uid, gid); err != nil {
					s.leave(name, err)
				}
			}
			return nil
		})
	}
}
