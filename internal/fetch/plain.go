package fetch

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
	"github.com/shardcast/shardcast/internal/shard"
)

// A plain upstream has shards and no manifest, like a server of the Python
// package. How its versions are cut it tells by its answers; whether the bytes are
// right, the digest of the whole alone.

// layout finds out how e is cut at u: a manifest without name, date and the
// digests of shards. Errors match [fs.ErrNotExist] if u has no shard of it.
func (p *Pool) layout(ctx context.Context, u *upstream, e distfile.Entry) (shard.Manifest, error) {
	m := shard.Manifest{Digest: e.Digest, ShardSize: 1}
	if e.Digest == shard.EmptyDigest() || e.Digest == shard.EmptyBLAKE3() {
		return m, nil
	}
	var err error
	if m.ShardSize, err = p.shardSize(ctx, u, e, 1); err != nil {
		return m, err
	}
	count := e.Count
	if count == 0 {
		if count, err = p.count(ctx, u, e); err != nil {
			return m, err
		}
	}
	last, err := p.shardSize(ctx, u, e, count)
	if err != nil {
		return m, err
	}
	if m.ShardSize < 1 || last < 1 || last > m.ShardSize || m.ShardSize > math.MaxInt64/shard.MaxShards {
		return m, wrong(fmt.Errorf("%s: %s: %w: the first of %d shards has %d bytes, and the last has %d",
			u.name, e.Version, shard.ErrSize, count, m.ShardSize, last))
	}
	m.Size = m.ShardSize*int64(count-1) + last
	m.Shards = make([]shard.Digest, count)
	return m, nil
}

// count finds the first shard that u does not have, and returns the number of
// those before it, 1 or more.
func (p *Pool) count(ctx context.Context, u *upstream, e distfile.Entry) (int, error) {
	var failed error
	missing := func(number int) bool {
		if failed != nil || number > shard.MaxShards {
			return true
		}
		_, err := p.shardSize(ctx, u, e, number)
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

// getShard is get for shard number of e, by whichever of its names u has it. Who offers
// by the digest of a manifest has them all by the first.
func (p *Pool) getShard(ctx context.Context, u *upstream, e distfile.Entry, number int, r request) (*body, error) {
	p.mu.Lock()
	long := u.long
	p.mu.Unlock()
	names := []string{shard.FileName(number), shard.LongFileName(number)}
	if long {
		slices.Reverse(names)
	}
	r.path = []string{e.Version.String(), names[0]}
	b, err := p.get(ctx, u, r)
	if !errors.Is(err, fs.ErrNotExist) || names[0] == names[1] || u.peer || r.digest != (shard.Digest{}) && p.offers(u, e) {
		return b, err
	}
	r.path = []string{e.Version.String(), names[1]}
	b, other := p.get(ctx, u, r)
	switch {
	case other == nil:
		p.mu.Lock()
		u.long = !long
		p.mu.Unlock()
	case errors.Is(other, fs.ErrNotExist):
		other = err
	}
	return b, other
}

// shardSize asks u for the size of a shard.
func (p *Pool) shardSize(ctx context.Context, u *upstream, e distfile.Entry, number int) (int64, error) {
	// Of all servers' answers to HEAD and to ranges, this one is always understood.
	body, err := p.getShard(ctx, u, e, number, request{want: disk.Range{To: 1}})
	if err != nil {
		return 0, err
	}
	defer body.Close()
	if body.size < 0 {
		return 0, refusal{fmt.Errorf("%s: it does not say how long shard %d of %s is", u.name, number, e.Version)}
	}
	return body.size, nil
}

// fetchPlain is the fetch of a version for which no upstream has a manifest.
func (p *Pool) fetchPlain(ctx context.Context, t Task, tally *tally) (m shard.Manifest, err error) {
	layouts, err := p.layouts(ctx, t.Entry)
	if err != nil {
		return shard.Manifest{}, err
	}
	for _, layout := range layouts {
		if m, err = p.fetchAs(ctx, t, tally, layout); !errors.Is(err, ErrIntegrity) {
			break
		}
	}
	return m, err
}

// layouts returns how e is cut by what upstreams have of it: what most say first,
// and of those that as many say the largest, for another one may not be whole.
func (p *Pool) layouts(ctx context.Context, e distfile.Entry) ([]shard.Manifest, error) {
	asked := make(map[*upstream]bool)
	votes := make(map[[2]int64]int)
	var layouts []shard.Manifest
	size := func(m shard.Manifest) [2]int64 { return [2]int64{m.Size, m.ShardSize} }
	q := quest{entry: e, refused: new(refusals), may: func(u *upstream) bool { return !asked[u] }, try: func(u *upstream) error {
		layout, err := p.layout(ctx, u, e)
		if err != nil {
			return err
		}
		asked[u] = true
		if votes[size(layout)]++; votes[size(layout)] == 1 {
			layouts = append(layouts, layout)
		}
		return nil
	}}
	err := p.retry(ctx, q)
	for err == nil { // the others once
		_, _, err = p.attempt(ctx, q)
	}
	if layouts == nil || ctx.Err() != nil {
		return nil, err
	}
	slices.SortFunc(layouts, func(a, b shard.Manifest) int {
		return cmp.Or(votes[size(b)]-votes[size(a)], cmp.Compare(b.Size, a.Size))
	})
	return layouts, nil
}

// fetchAs fetches a version that is cut like layout. When the file that came from all
// upstreams is wrong, it is fetched from each of them alone, in turn: whose file is wrong
// then is to blame.
func (p *Pool) fetchAs(ctx context.Context, t Task, tally *tally, layout shard.Manifest) (shard.Manifest, error) {
	f := p.fetching(t, tally)
	f.manifest = layout
	err := f.run(ctx, t)
	if !errors.Is(err, ErrIntegrity) {
		return f.result(), err
	}
	var failed []error
	for _, u := range p.all() {
		if !p.offers(u, t.Entry) || f.refused.has(u) {
			continue
		}
		if err := err; !f.isFrom(u) {
			p.opts.Logger.Warn("file is fetched from one upstream alone", "version", t.Entry.Version.String(),
				"upstream", u.name, "err", err)
			alone := p.fetching(t, tally)
			alone.manifest, alone.only = layout, u
			if err = alone.run(ctx, t); err == nil || ctx.Err() != nil || errors.As(err, new(local)) {
				return alone.result(), err
			}
		}
		err := fmt.Errorf("%s alone: %w", u.name, err)
		if failed = append(failed, err); errors.Is(err, ErrIntegrity) {
			p.blame(ctx, f.quest(), u, wrong(err))
		}
	}
	return shard.Manifest{}, kind{failures(append(failed, err)), ErrIntegrity}
}
