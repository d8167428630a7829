package store

import (
	"errors"
	"io/fs"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// Usage is what there is in a data directory.
type Usage struct {
	// Held are the versions on offer, ascending, and Shards how many shards they have.
	Held   []distfile.Entry
	Shards int64

	// Bytes is what all that is ours takes of the disk, drafts and what was retired
	// included.
	Bytes int64

	// Free is what an ordinary process may still write there, in bytes, or -1 if that
	// cannot be told.
	Free int64
}

// Usage measures the directory. A version on offer does not change, so each is looked at
// only once.
func (s *Store) Usage() (Usage, error) {
	s.measuring.Lock()
	defer s.measuring.Unlock()
	var all Usage
	var err error
	if all.Held, err = s.Distribution(); err != nil {
		return Usage{}, err
	}
	measured := make(map[distfile.Entry]Usage, len(all.Held))
	for _, e := range all.Held {
		one, ok := s.measured[e]
		if !ok {
			if one, err = s.measure(e.Version.String()); err != nil {
				return Usage{}, err
			}
		}
		measured[e] = one
		all.Shards += one.Shards
		all.Bytes += one.Bytes
	}
	s.measured = measured
	rest, err := s.measure(private)
	all.Bytes += rest.Bytes
	if all.Free = -1; err == nil {
		if free, unknown := disk.Free(s.dir); unknown == nil {
			all.Free = free
		}
	}
	return all, err
}

// measure counts the shards in the directory name and what all files take that are there
// or below. What goes meanwhile does not count.
func (s *Store) measure(name string) (Usage, error) {
	var u Usage
	err := fs.WalkDir(s.root.FS(), name, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				u.Bytes += disk.Allocated(info)
				if _, bad := shard.ParseFileName(d.Name()); bad == nil {
					u.Shards++
				}
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return u, err
}
