package store

import (
	"bytes"
	"errors"
	"io/fs"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/release"
)

// RelayRelease makes text the release.txt of a middle's directory, as it came, and removes that if
// text is nil. It touches nothing if that is so already.
func (s *Store) RelayRelease(text []byte) error {
	now, err := disk.ReadFile(s.root, release.FileName, release.MaxSize)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case text == nil && missing, text != nil && err == nil && bytes.Equal(now, text):
		return nil
	case text != nil:
		return s.writeFile(release.FileName, text)
	}
	if err := s.root.Remove(release.FileName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return disk.SyncDir(s.root, ".")
}

// PrivateName is the directory, in a data directory, of what is never served.
const PrivateName = private
