package inspect

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/shardcast/shardcast/internal/shard"
)

// deltas reads the deltas that the manifest names, as far as they are here: a middle may have none.
func (v *verification) deltas() error {
	for _, line := range v.manifest.Deltas {
		name := path.Join(shard.DeltaName(line.Base), shard.ManifestName)
		m, err := v.deltaManifest(line)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			if err := v.note(name, err); err != nil {
				return err
			}
			continue
		}
		for number := range m.Shards {
			if err := v.readDelta(line.Base, m.Content().Shard(number+1)); err != nil {
				return err
			}
		}
	}
	return nil
}

// deltaManifest returns the manifest of a delta, which has to be the one of its line.
func (v *verification) deltaManifest(line shard.Delta) (m shard.DeltaManifest, err error) {
	f, err := v.store.DeltaManifest(v.entry.Version, line.Base)
	if err != nil {
		return shard.DeltaManifest{}, err
	}
	defer f.Close()
	text := sha256.New()
	m, err = shard.ParseDeltaManifest(io.TeeReader(f, text))
	switch {
	case err != nil:
		return shard.DeltaManifest{}, err
	case shard.Digest(text.Sum(nil)) != line.Manifest:
		return m, fmt.Errorf("%w: not the one in the version's %s", shard.ErrDigest, shard.ManifestName)
	case m.BaseDigest != line.BaseDigest || m.TargetDigest != v.manifest.Digest || m.Size != line.Size:
		return m, fmt.Errorf("%w: it is of other versions, or another size, than the version's %s says",
			shard.ErrManifest, shard.ManifestName)
	}
	return m, nil
}

// readDelta reads a shard of a delta.
func (v *verification) readDelta(base shard.Version, s shard.Shard) error {
	if v.ctx.Err() != nil {
		return context.Cause(v.ctx)
	}
	name := path.Join(shard.DeltaName(base), shard.FileName(s.Number))
	f, done, err := v.store.DeltaShard(v.entry.Version, base, s.Number)
	if err != nil {
		return v.note(name, err)
	}
	defer done()
	defer f.Close()
	return v.note(name, s.Verify(f, make([]byte, verifyBuffer)))
}
