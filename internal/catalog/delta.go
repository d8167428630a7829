package catalog

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/shardcast/shardcast/internal/shard"
)

// A Delta is one that is held, of a version that is here.
type Delta struct {
	file    *os.File // its manifest
	content manifest
}

// Delta returns the delta from base to v, which the caller closes. The error matches
// [fs.ErrNotExist] if there is none here, and [ErrWithdrawn] if v was declared bad.
func (c *Catalog) Delta(v, base shard.Version) (*Delta, error) {
	if c.store == nil {
		return nil, fs.ErrNotExist
	}
	if c.store.IsWithdrawn(v) {
		return nil, ErrWithdrawn
	}
	f, err := c.store.DeltaManifest(v, base)
	if err != nil {
		return nil, err
	}
	m, err := c.manifests.of(described{v, base}, f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Delta{file: f, content: m}, nil
}

// Text returns the manifest of the delta as it is written, and the digest of that text.
func (d *Delta) Text() (text io.ReadSeeker, tag shard.Digest, err error) {
	_, err = d.file.Seek(0, io.SeekStart) // it may have been parsed
	return d.file, d.content.tag, err
}

// Close gives back what [Catalog.Delta] has opened.
func (d *Delta) Close() { _ = d.file.Close() }

// DeltaShard returns a shard of the delta from base to v, which the caller closes. Errors are those
// of [Catalog.Delta].
func (c *Catalog) DeltaShard(v, base shard.Version, number int) (*Shard, error) {
	d, err := c.Delta(v, base)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if number > len(d.content.content.Shards) {
		return nil, fs.ErrNotExist
	}
	f, done, err := c.store.DeltaShard(v, base, number)
	if err != nil {
		return nil, err
	}
	return &Shard{Digest: d.content.content.Shards[number-1], File: f, close: func() error {
		defer done()
		return f.Close()
	}}, nil
}
