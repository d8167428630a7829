package catalog

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/shardcast/shardcast/internal/shard"
)

// WantBLAKE3 notes that a program asks for BLAKE3 digests, see [store.Store.WantBLAKE3].
func (c *Catalog) WantBLAKE3() error { return c.store.WantBLAKE3() }

// BLAKE3 returns that of v, as far as it is known. The error matches [fs.ErrNotExist] if it is not.
func (c *Catalog) BLAKE3(v shard.Version) (shard.Digest, error) {
	if a := c.board.Version(v); a != nil && a.Manifest.BLAKE3 != (shard.Digest{}) {
		return a.Manifest.BLAKE3, nil
	}
	return c.store.BLAKE3(v)
}

// WithoutBLAKE3 returns the versions that are held and whose BLAKE3 is not known, the newest first.
func (c *Catalog) WithoutBLAKE3() ([]Offer, error) {
	offers, err := c.Offers()
	offers = slices.DeleteFunc(offers, func(o Offer) bool {
		return o.Foreign || o.BLAKE3 != shard.Digest{} || !c.store.Holds(o.Entry.Version)
	})
	slices.Reverse(offers)
	return offers, err
}

// AddBLAKE3 reads the shards of an offer, and keeps their BLAKE3 if their SHA-256 is that of the
// offer. Errors match [shard.ErrDigest] if it is not, and [fs.ErrNotExist] if the version is gone.
func (c *Catalog) AddBLAKE3(ctx context.Context, o Offer) error {
	v := o.Entry.Version
	sums, hash := sha256.New(), shard.NewBLAKE3()
	buf := make([]byte, 256<<10)
	for number := 1; number <= o.Count; number++ {
		f, done, err := c.store.Shard(v, number)
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(io.MultiWriter(sums, hash), reader{ctx, f}, buf)
		done()
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w", v, err)
		}
	}
	if got := shard.Digest(sums.Sum(nil)); got != o.SHA256 {
		return fmt.Errorf("%s: the whole has a %w: %s instead of %s", v, shard.ErrDigest, got, o.SHA256)
	}
	if !c.store.Holds(v) {
		return fmt.Errorf("%s: %w", v, fs.ErrNotExist)
	}
	return c.store.SetBLAKE3(v, shard.Digest(hash.Sum(nil)))
}

// reader reads until its context ends.
type reader struct {
	ctx context.Context //nolint:containedctx // of the one call that reads
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
