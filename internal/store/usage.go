package store

import (
	"errors"
	"io/fs"
	"path"
	"slices"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// Usage is the number and size of a data directory's contents.
type Usage struct {
	// Held are the versions on offer, ascending, and Shards is the number of their shards.
	Held   []distfile.Entry
	Shards int64

	// Bytes is the disk space of all files of ours, those of drafts and retired versions
	// included.
	Bytes int64

	// Free is the number of bytes that an ordinary process may still write there, or -1 if
	// the system does not report it.
	Free int64
}

// Usage measures the directory. A version on offer does not change, so all are measured only
// when others come or go, which may share shards with them.
func (s *Store) Usage() (Usage, error) {
	s.measuring.Lock()
	defer s.measuring.Unlock()
	var all Usage
	var err error
	if all.Held, err = s.Distribution(); err != nil {
		return Usage{}, err
	}
	before := s.measured
	if len(before) != len(all.Held) || slices.ContainsFunc(all.Held, func(e distfile.Entry) bool {
		_, ok := before[e]
		return !ok
	}) {
		before = nil
	}
	measured := make(map[distfile.Entry]Usage, len(all.Held))
	for _, e := range all.Held {
		one, ok := before[e]
		if !ok {
			if one, err = s.measure(e.Version.String()); err != nil {
				continue // one that cannot be looked at hides no others
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

// measure counts the shards of versions in the directory name and below, and the disk space of all
// files there, of one with n names an n-th. Files that vanish meanwhile do not count.
func (s *Store) measure(name string) (Usage, error) {
	var u Usage
	err := fs.WalkDir(s.root.FS(), name, func(file string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				u.Bytes += disk.Allocated(info) / int64(disk.Links(info))
				_, bad := shard.ParseFileName(d.Name())
				_, ofDelta := shard.ParseDeltaName(path.Base(path.Dir(file)))
				if bad == nil && ofDelta != nil {
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
