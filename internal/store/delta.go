package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

// DeltaManifest is [Store.Manifest] of the delta from base to v.
func (s *Store) DeltaManifest(v, base shard.Version) (*os.File, error) {
	return s.open(v, path.Join(shard.DeltaName(base), shard.ManifestName))
}

// DeltaShard is [Store.Shard] of the delta from base to v.
func (s *Store) DeltaShard(v, base shard.Version, number int) (f *os.File, done func(), err error) {
	f, err = s.open(v, path.Join(shard.DeltaName(base), shard.FileName(number)))
	if err != nil {
		return nil, nil, err
	}
	return f, s.uses.begin(v), nil
}

// Delta returns the draft of the delta from base, in the draft of its version, with the files that an
// earlier process has put there. It is published with its version, if the manifest of that names
// it, and only then.
func (d *Draft) Delta(base shard.Version) (*Draft, error) {
	return d.beside(&Draft{store: d.store, version: d.version, base: base})
}

// Before returns the draft of a delta that is not of this version, but leads to the base of one that is: the first,
// second and so on of several. It is not published.
func (d *Draft) Before(number int) (*Draft, error) {
	return d.beside(&Draft{store: d.store, version: d.version, before: number})
}

func (d *Draft) beside(delta *Draft) (*Draft, error) {
	if err := d.store.root.MkdirAll(delta.path(), 0o777); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", d.store.dir, err)
	}
	return delta, nil
}

// EndDelta puts the manifest m into the draft, which is that of a delta and has all of m's shards, and
// returns the delta's line for the manifest of its version.
func (d *Draft) EndDelta(m shard.DeltaManifest) (shard.Delta, error) {
	text, err := m.Encode()
	if err != nil {
		return shard.Delta{}, err
	}
	if err := d.Write(shard.ManifestName, text); err != nil {
		return shard.Delta{}, err
	}
	line := shard.Delta{Base: d.base, BaseDigest: m.BaseDigest, Size: m.Size, Manifest: sha256.Sum256(text)}
	return line, disk.SyncDir(d.store.root, d.path())
}

// finishDelta makes the draft of a delta ready to be published, as far as it is whole: it has the manifest of
// line and its shards, and no other files.
func (d *Draft) finishDelta(line shard.Delta) (whole bool, err error) {
	f, err := d.store.openRegular(path.Join(d.path(), shard.ManifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	text := sha256.New()
	m, err := shard.ParseDeltaManifest(io.TeeReader(f, text))
	if errors.Is(err, shard.ErrManifest) || err == nil && shard.Digest(text.Sum(nil)) != line.Manifest {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	wanted := map[string]bool{shard.ManifestName: true}
	for i := range m.Shards {
		name := shard.FileName(i + 1)
		if _, err := d.store.root.Lstat(path.Join(d.path(), name)); errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		wanted[name] = true
	}
	if err := d.keep(wanted); err != nil {
		return false, err
	}
	return true, disk.SyncDir(d.store.root, d.path())
}
