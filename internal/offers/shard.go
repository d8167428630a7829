package offers

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/shard"
)

// GetShard requests shard number of e from s, by the name that s has it under: of plain
// servers some have names with five digits. The request r has no path.
func (o *Offers) GetShard(
	ctx context.Context, s *remote.Server, e distfile.Entry, number int, r remote.Request,
) (*remote.Body, error) {
	names := []string{shard.FileName(number), shard.LongFileName(number)}
	long := o.listings.of(s).long
	if long {
		slices.Reverse(names)
	}
	r.Path = []string{e.Version.String(), names[0]}
	b, err := o.opts.Remote.Get(ctx, s, r)
	// Servers with a manifest, and peers, have all shards by the first name. With a key the
	// manifest may be another server's.
	isPlain := (r.Digest == (shard.Digest{}) || o.Signed()) && o.opts.Roster.Has(s)
	if !errors.Is(err, fs.ErrNotExist) || !isPlain || names[0] == names[1] {
		return b, err
	}
	r.Path = []string{e.Version.String(), names[1]}
	b, other := o.opts.Remote.Get(ctx, s, r)
	switch {
	case other == nil:
		o.listings.update(s, func(l *listing) { l.long = !long })
	case errors.Is(other, fs.ErrNotExist):
		other = err
	}
	return b, other
}
