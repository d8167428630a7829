package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

// A Draft is a version that is not whole yet, or a delta of one. It survives a restart, after
// which its bytes must be verified before they are used.
type Draft struct {
	store   *Store
	version shard.Version
	base    shard.Version // of a delta, or 0
	before  int           // the number of a delta that comes before, or 0

	held *os.Root // its directory, while it is held, or nil
}

// Draft returns the draft of v, with the files that an earlier process has put there.
func (s *Store) Draft(v shard.Version) (*Draft, error) {
	d := &Draft{store: s, version: v}
	if err := s.root.MkdirAll(d.path(), 0o777); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", s.dir, err)
	}
	return d, nil
}

// Drafts returns all drafts, ascending.
func (s *Store) Drafts() ([]*Draft, error) {
	versions, err := s.versionsIn(drafts)
	found := make([]*Draft, len(versions))
	for i, v := range versions {
		found[i] = &Draft{store: s, version: v}
	}
	return found, err
}

// DiscardDrafts removes the drafts of which keep returns false, as far as that is possible. No
// process may be writing to them.
func (s *Store) DiscardDrafts(keep func(shard.Version) bool) error {
	found, err := s.Drafts()
	for _, d := range found {
		if keep(d.version) {
			continue
		}
		if bad := d.Discard(); bad != nil {
			s.leave(d.path(), bad)
		}
	}
	return err
}

// Version is the number that the draft will have.
func (d *Draft) Version() shard.Version { return d.version }

// Hold keeps the directory of the draft open until release is called, so that the system does not
// look for it again for each file that is made. No file is made while Hold or release runs.
func (d *Draft) Hold() (release func() error, err error) {
	if d.held, err = d.store.root.OpenRoot(d.path()); err != nil {
		return nil, err
	}
	return func() error {
		held := d.held
		d.held = nil
		return held.Close()
	}, nil
}

// Create returns a writer for shard number, which replaces the shard in the draft when it is
// committed.
func (d *Draft) Create(number int) (shard.Writer, error) { return d.CreateFile(shard.FileName(number)) }

// Read opens shard number for reading, in the draft, or where the version is held once the
// draft has been published. The error matches [fs.ErrNotExist] if there is no such file.
func (d *Draft) Read(number int) (*os.File, error) { return d.ReadFile(shard.FileName(number)) }

// ReadFile opens the file name as [Draft.Read] opens a shard.
func (d *Draft) ReadFile(name string) (*os.File, error) {
	f, err := d.store.openRegular(path.Join(d.path(), name))
	if errors.Is(err, fs.ErrNotExist) {
		return d.store.open(d.version, path.Join(d.within(), name))
	}
	return f, err
}

// Need returns an error if the disk has no room for the missing part of size bytes, see
// [disk.Need].
func (d *Draft) Need(size int64) error {
	files, err := fs.ReadDir(d.store.root.FS(), d.path())
	if err != nil {
		return err
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil {
			size -= disk.Allocated(info)
		}
	}
	return disk.Need(d.store.dir, size)
}

// Manifest returns the last manifest of [Draft.SetManifest]. The error matches
// [fs.ErrNotExist] if there is none.
func (d *Draft) Manifest() (shard.Manifest, error) {
	f, err := disk.OpenRegular(d.store.root, path.Join(d.path(), shard.ManifestName))
	if err != nil {
		return shard.Manifest{}, err
	}
	defer f.Close()
	return shard.ParseManifest(f)
}

// SetManifest keeps m in the draft, so that a later process knows the file that the shards
// are of.
func (d *Draft) SetManifest(m shard.Manifest) error {
	text, err := m.Encode()
	if err != nil {
		return err
	}
	return d.Write(shard.ManifestName, text)
}

// Write puts the file name into the draft, in place of another one of that name: a manifest
// as it came, or a file that goes with it.
func (d *Draft) Write(name string, text []byte) error {
	f, err := d.CreateFile(name)
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Commit(), f.Close())
}

// CreateFile returns a writer for the file name, which takes its place in the draft when it
// is committed.
func (d *Draft) CreateFile(name string) (shard.Writer, error) {
	root := d.held
	if root == nil {
		root, name = d.store.root, path.Join(d.path(), name)
	}
	f, err := disk.Create(root, name+".part", name, 0o666)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Discard removes the draft with all its files.
func (d *Draft) Discard() error {
	return d.store.root.RemoveAll(d.path())
}

// finish makes the draft ready to be published: it has the files of m, and no others. A
// manifest in the draft that states the same stays as it was written.
func (d *Draft) finish(m shard.Manifest) error {
	if written, err := d.Manifest(); err != nil || !written.Same(m) {
		if err := d.SetManifest(m); err != nil {
			return err
		}
	}
	if err := d.Write(shard.SumsName, shard.SHA256SUMS(m.Shards)); err != nil {
		return err
	}
	wanted := map[string]bool{shard.ManifestName: true, shard.SumsName: true}
	if m.BLAKE3 != (shard.Digest{}) {
		if err := d.Write(shard.BLAKE3Name, shard.BLAKE3Text(m.BLAKE3)); err != nil {
			return err
		}
		wanted[shard.BLAKE3Name] = true
	}
	if m.Files != nil {
		wanted[shard.FilesName] = true
	}
	for i := range m.Shards {
		wanted[shard.FileName(i+1)] = true
	}
	for _, line := range m.Deltas {
		whole, err := (&Draft{store: d.store, version: d.version, base: line.Base}).finishDelta(line)
		if err != nil {
			return err
		}
		if whole { // a middle may have none of it, or a part
			wanted[shard.DeltaName(line.Base)] = true
		}
	}
	if err := d.keep(wanted); err != nil {
		return err
	}
	return disk.SyncDir(d.store.root, d.path())
}

// keep removes all files of the draft but those that are wanted, and returns an error if one of these is
// missing.
func (d *Draft) keep(wanted map[string]bool) error {
	files, err := fs.ReadDir(d.store.root.FS(), d.path())
	if err != nil {
		return err
	}
	for _, f := range files {
		if !wanted[f.Name()] {
			err = errors.Join(err, d.store.root.RemoveAll(path.Join(d.path(), f.Name())))
		}
		delete(wanted, f.Name())
	}
	if err != nil {
		return err
	}
	for name := range wanted {
		return fmt.Errorf("publish %s: %s is missing", d.version, path.Join(d.within(), name))
	}
	return nil
}

func (d *Draft) path() string {
	return path.Join(drafts, d.version.String(), d.within())
}

// within is the directory of a delta in that of its version, and empty for a version.
func (d *Draft) within() string {
	switch {
	case d.before > 0:
		return fmt.Sprintf("before_%d", d.before)
	case d.base == 0:
		return ""
	}
	return shard.DeltaName(d.base)
}
