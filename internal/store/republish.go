package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// Republish puts the version v on offer once more, under the next number, which it returns:
// with the bytes of its manifest, and so with its deltas, and by hard links where the file system has
// them, else by copies. The error matches [shard.ErrNoVersion] if v is not on offer.
func (w *Writer) Republish(v shard.Version) (shard.Version, error) {
	held, err := w.listed()
	if err != nil {
		return 0, err
	}
	if !slices.ContainsFunc(held, func(e distfile.Entry) bool { return e.Version == v }) {
		return 0, fmt.Errorf("%w: %s in %s", shard.ErrNoVersion, v, w.store.dir)
	}
	m, err := w.store.manifest(v)
	if err != nil {
		return 0, err
	}
	if err := w.Admit(m.Labels); err != nil {
		return 0, err
	}
	next, err := w.Next()
	if err != nil {
		return 0, err
	}
	d, err := w.store.Draft(next)
	if err != nil {
		return 0, err
	}
	m.BLAKE3, _ = w.store.BLAKE3(v) // where it is known
	if err = d.fill(v, m); err == nil {
		err = w.Publish(d, m)
	}
	if err != nil {
		return 0, errors.Join(err, d.Discard())
	}
	return next, nil
}

// manifest reads that of v. Without one, as in a directory of the Python package, a version
// cannot be published under another number.
func (s *Store) manifest(v shard.Version) (shard.Manifest, error) {
	f, err := s.Manifest(v)
	if errors.Is(err, fs.ErrNotExist) {
		return shard.Manifest{}, fmt.Errorf("%s has no manifest; broadcast its file again", v)
	}
	if err != nil {
		return shard.Manifest{}, err
	}
	defer f.Close()
	return shard.ParseManifest(f)
}

// fill puts the files of v, whose manifest is m, into the draft.
func (d *Draft) fill(v shard.Version, m shard.Manifest) error {
	names := []string{shard.ManifestName}
	if m.Files != nil {
		names = append(names, shard.FilesName)
	}
	for number := range m.Shards {
		names = append(names, shard.FileName(number+1))
	}
	for i, name := range names {
		if d.link(v, name) {
			continue
		}
		if i == len(names)-len(m.Shards) {
			if err := d.Need(m.Size); err != nil {
				return err
			}
		}
		if err := d.copyFile(name, path.Join(v.String(), name)); err != nil {
			return err
		}
	}
	for _, delta := range m.Deltas {
		if err := d.fillDelta(v, delta.Base); err != nil {
			return err
		}
	}
	return nil
}

// fillDelta puts the delta of v from base into the draft. A directory of a middle may lack it.
func (d *Draft) fillDelta(v, base shard.Version) error {
	name := shard.DeltaName(base)
	files, err := fs.ReadDir(d.store.root.FS(), path.Join(v.String(), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = d.Delta(base)
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		if name := path.Join(name, f.Name()); !d.link(v, name) {
			if err := d.copyFile(name, path.Join(v.String(), name)); err != nil {
				return err
			}
		}
	}
	return disk.SyncDir(d.store.root, path.Join(d.path(), name))
}

// link makes the file name of v that of the draft, too, and reports whether it could.
func (d *Draft) link(v shard.Version, name string) bool {
	return d.store.root.Link(path.Join(v.String(), name), path.Join(d.path(), name)) == nil
}

// copyFile copies the file from to the file name of the draft.
func (d *Draft) copyFile(name, from string) error {
	source, err := d.store.openRegular(from)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	defer source.Close()
	to, err := d.CreateFile(name)
	if err != nil {
		return err
	}
	defer to.Close()
	if _, err := io.Copy(to, source); err != nil {
		return err
	}
	return to.Commit()
}
