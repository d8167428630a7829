package store

import (
	"errors"
	"io/fs"
	"path"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

const (
	// blake3Wanted is an empty file, changed when a program has asked for BLAKE3 digests.
	blake3Wanted = private + "/blake3"

	// blake3WantedFor is for how long versions get a BLAKE3 with their publication after that.
	blake3WantedFor = 7 * 24 * time.Hour

	// blake3WantedAnew is how old blake3Wanted becomes before it is changed again.
	blake3WantedAnew = time.Hour
)

// WantBLAKE3 notes that a program asks for the BLAKE3 of versions: for a week, those that come get
// it from the pass over their bytes that is made anyway.
func (s *Store) WantBLAKE3() error {
	if s.blake3WantedWithin(blake3WantedAnew) {
		return nil
	}
	return s.writeFile(blake3Wanted, nil)
}

// WantsBLAKE3 reports whether [Store.WantBLAKE3] was called in the last week, by any process.
func (s *Store) WantsBLAKE3() bool { return s.blake3WantedWithin(blake3WantedFor) }

func (s *Store) blake3WantedWithin(age time.Duration) bool {
	info, err := s.root.Lstat(blake3Wanted)
	return err == nil && time.Since(info.ModTime()) < age
}

// BLAKE3 returns that of v, as its file states it. The error matches [fs.ErrNotExist] if v is not
// here, or has none.
func (s *Store) BLAKE3(v shard.Version) (shard.Digest, error) {
	f, err := s.open(v, shard.BLAKE3Name)
	if err != nil {
		return shard.Digest{}, err
	}
	defer f.Close()
	return shard.ParseBLAKE3(f)
}

// SetBLAKE3 puts that of v beside its manifest. The error matches [fs.ErrNotExist] if v is gone.
func (s *Store) SetBLAKE3(v shard.Version, digest shard.Digest) error {
	return s.writeFile(path.Join(v.String(), shard.BLAKE3Name), shard.BLAKE3Text(digest))
}

// BLAKE3 returns the one that the draft has, or the zero digest.
func (d *Draft) BLAKE3() (shard.Digest, error) {
	f, err := disk.OpenRegular(d.store.root, path.Join(d.path(), shard.BLAKE3Name))
	if errors.Is(err, fs.ErrNotExist) {
		return shard.Digest{}, nil
	}
	if err != nil {
		return shard.Digest{}, err
	}
	defer f.Close()
	return shard.ParseBLAKE3(f)
}
