package offers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"sort"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
)

// Layouts returns how e is cut at servers without a manifest: manifests without name,
// date and the digests of shards. The number of shards is what the distribution states, or
// those before the first that is missing; their size is the first one's. What most servers
// have comes first, and of those that as many have the largest, for another one may be
// incomplete. With patient it waits for the shards that it needs, see [roster.Later]. Errors
// are those of [roster.Roster.Try].
func (o *Offers) Layouts(ctx context.Context, e distfile.Entry, patient bool) ([]shard.Manifest, error) {
	w := o.Want(e)
	asked := make(map[*remote.Server]bool)
	votes := make(map[[2]int64]int)
	var layouts []shard.Manifest
	size := func(m shard.Manifest) [2]int64 { return [2]int64{m.Size, m.ShardSize} }
	job := w.Job(func(s *remote.Server) error {
		layout, err := ruler{o, s, e}.layout(ctx)
		if errors.Is(err, fs.ErrNotExist) && patient {
			err = &roster.Setback{Err: err, What: roster.Later}
		}
		if err != nil {
			return err
		}
		asked[s] = true
		if votes[size(layout)]++; votes[size(layout)] == 1 {
			layouts = append(layouts, layout)
		}
		return nil
	})
	job.May = func(s *remote.Server) bool { return !asked[s] && w.May(s) }
	err := o.opts.Roster.Try(ctx, job)
	for err == nil { // the others once
		_, _, err = o.opts.Roster.Attempt(ctx, job)
	}
	if layouts == nil || ctx.Err() != nil {
		return nil, err
	}
	slices.SortFunc(layouts, func(a, b shard.Manifest) int {
		return cmp.Or(votes[size(b)]-votes[size(a)], cmp.Compare(b.Size, a.Size))
	})
	return layouts, nil
}

// ruler measures how a version is cut at one server.
type ruler struct {
	offers *Offers
	server *remote.Server
	entry  distfile.Entry
}

// layout returns how the version is cut. Errors match [fs.ErrNotExist] if the server has
// no shard of it.
func (r ruler) layout(ctx context.Context) (shard.Manifest, error) {
	m := shard.Manifest{Digest: r.entry.Digest, ShardSize: 1}
	if shard.IsEmpty(m.Digest) { // also where the server has an empty shard of it
		m.Digest, m.BLAKE3 = shard.EmptyDigest(), shard.EmptyBLAKE3()
		return m, nil
	}
	var err error
	if m.ShardSize, err = r.size(ctx, 1); err != nil {
		return m, err
	}
	count := r.entry.Count
	if count == 0 {
		if count, err = r.count(ctx); err != nil {
			return m, err
		}
	}
	last, err := r.size(ctx, count)
	if err != nil {
		return m, err
	}
	if m.ShardSize < 1 || last < 1 || last > m.ShardSize || m.ShardSize > math.MaxInt64/shard.MaxShards {
		return m, roster.Wrong(fmt.Errorf("%s: %s: %w: the first of %d shards has %d bytes, and the last has %d",
			r.server.Name, r.entry.Version, shard.ErrSize, count, m.ShardSize, last))
	}
	m.Size = m.ShardSize*int64(count-1) + last
	m.Shards = make([]shard.Digest, count)
	return m, nil
}

// count finds the first shard that the server does not have, and returns the number of
// those before it, 1 or more.
func (r ruler) count(ctx context.Context) (int, error) {
	var failed error
	missing := func(number int) bool {
		if failed != nil || number > shard.MaxShards {
			return true
		}
		_, err := r.size(ctx, number)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = err
		}
		return err != nil
	}
	most := 2
	for !missing(most) {
		most *= 2
	}
	least := most / 2
	// Those up to least are there, and most is not.
	return least + sort.Search(most-least-1, func(i int) bool { return missing(least + 1 + i) }), failed
}

// size asks for the size of a shard.
func (r ruler) size(ctx context.Context, number int) (int64, error) {
	// Of all servers' answers to HEAD and to ranges, this one is always understood.
	body, err := r.offers.GetShard(ctx, r.server, r.entry, number, remote.Request{Want: disk.Range{To: 1}})
	if err != nil {
		return 0, err
	}
	defer body.Close()
	if body.Size < 0 {
		err := fmt.Errorf("%s: it does not state how long shard %d of %s is", r.server.Name, number, r.entry.Version)
		return 0, &roster.Setback{Err: err, What: roster.Never}
	}
	return body.Size, nil
}
