package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"

	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
)

// A Delta is one that is held or arriving, of a version that is here.
type Delta struct {
	// Manifest describes the delta as if it were a version.
	Manifest shard.Manifest

	file     *os.File       // the manifest of one that is held
	tag      shard.Digest   // likewise
	arriving *relay.Version // nil if it is held
}

// Delta returns the delta from base to v, which the caller closes. Of one that may be about to arrive it waits for
// so long until it does, or ctx ends. The error matches [fs.ErrNotExist] if there is none here, [ErrLater] if that is
// not known yet, and [ErrWithdrawn] if v was declared bad.
func (c *Catalog) Delta(ctx context.Context, v, base shard.Version, patience time.Duration) (*Delta, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if c.store != nil && c.store.IsWithdrawn(v) {
			return nil, ErrWithdrawn
		}
		arriving, listed := c.board.Find(v)
		switch {
		case !listed:
			return c.heldDelta(v, base)
		case arriving == nil:
			return nil, ErrLater
		}
		delta, expected, changed := arriving.Delta(base)
		switch {
		case delta != nil:
			return &Delta{Manifest: delta.Manifest, arriving: delta}, nil
		case !expected:
			return nil, fs.ErrNotExist
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ErrLater
		}
	}
}

// heldDelta returns a delta that is in the directory.
func (c *Catalog) heldDelta(v, base shard.Version) (*Delta, error) {
	if c.store == nil {
		return nil, fs.ErrNotExist
	}
	f, err := c.store.DeltaManifest(v, base)
	if err != nil {
		return nil, err
	}
	m, err := c.manifests.of(described{v, base}, f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Delta{Manifest: m.content, file: f, tag: m.tag}, nil
}

// Arriving returns the number of servers on the way here of a delta that is arriving, and whether it is.
func (d *Delta) Arriving() (tier int, arriving bool) {
	if d.arriving == nil {
		return 0, false
	}
	return d.arriving.Tier, true
}

// Text returns the manifest of the delta as it is written, and the digest of that text.
func (d *Delta) Text() (text io.ReadSeeker, tag shard.Digest, err error) {
	if d.arriving != nil {
		written, err := d.arriving.Text()
		return bytes.NewReader(written), sha256.Sum256(written), err
	}
	_, err = d.file.Seek(0, io.SeekStart) // it may have been parsed
	return d.file, d.tag, err
}

// Extents yields how much there is of each shard, from the first to the last.
func (d *Delta) Extents() iter.Seq[Extent] { return extents(d.arriving, d.Manifest) }

// Close gives back what [Catalog.Delta] has opened.
func (d *Delta) Close() {
	if d.file != nil {
		_ = d.file.Close()
	}
}

// DeltaShard returns a shard of the delta from base to v, which the caller closes. Errors are those
// of [Catalog.Delta].
func (c *Catalog) DeltaShard(ctx context.Context, v, base shard.Version, number int) (*Shard, error) {
	d, err := c.Delta(ctx, v, base, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if d.arriving != nil {
		s, err := arrivingShard(d.arriving, number)
		if errors.Is(err, relay.ErrBroken) {
			err = ErrLater
		}
		return s, err
	}
	if number > len(d.Manifest.Shards) {
		return nil, fs.ErrNotExist
	}
	f, done, err := c.store.DeltaShard(v, base, number)
	if err != nil {
		return nil, err
	}
	return &Shard{Digest: d.Manifest.Shards[number-1], File: f, close: func() error {
		defer done()
		return f.Close()
	}}, nil
}
