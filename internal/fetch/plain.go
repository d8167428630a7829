package fetch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

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

// maxGuesses bounds how many ways to put a file together are tried.
const maxGuesses = 64

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

// fetchAs fetches a version that is cut like layout. When what has come is not the
// file, all shards are asked of all upstreams, and where they differ one after the
// other is tried.
func (p *Pool) fetchAs(ctx context.Context, t Task, tally *tally, layout shard.Manifest) (shard.Manifest, error) {
	f := p.fetching(t, tally)
	f.manifest = layout
	whole := f.run(ctx, t)
	if !errors.Is(whole, ErrIntegrity) {
		return f.result(), whole
	}
	p.opts.Logger.Warn("file is wrong, looking for where upstreams differ", "version", t.Entry.Version.String(), "err", whole)
	says, err := f.survey(ctx)
	if err != nil {
		return shard.Manifest{}, err
	}
	tried := [][]shard.Digest{f.digests}
	for guess := range guesses(says) {
		if slices.ContainsFunc(tried, func(t []shard.Digest) bool { return slices.Equal(t, guess) }) {
			continue
		}
		tried = append(tried, guess)
		f := p.fetching(t, tally)
		f.manifest = layout
		f.manifest.Shards = guess
		f.says = says
		err := f.run(ctx, t)
		if err == nil {
			f.accuse(says)
		}
		if err == nil || !errors.Is(err, ErrIntegrity) {
			return f.result(), err
		}
	}
	return shard.Manifest{}, kind{fmt.Errorf("%w; %s", whole, told(says)), ErrIntegrity}
}

// told says what upstreams have, none of which is right.
func told(says []say) string {
	switch len(says) {
	case 0:
		return "no server has all shards, to compare with"
	case 1:
		return "no server but " + says[0].upstream.name + " has all shards, to compare it with"
	}
	var names, numbers []string
	for _, s := range says {
		names = append(names, s.upstream.name)
	}
	for _, d := range differing(says) {
		numbers = append(numbers, strconv.Itoa(d.index+1))
	}
	if numbers == nil {
		return strings.Join(names, " and ") + " have the same shards"
	}
	return fmt.Sprintf("%s differ in shard %.200s, and no mixture of theirs is right", strings.Join(names, " and "), strings.Join(numbers, ", "))
}

// say is what one upstream sends for each shard.
type say struct {
	upstream *upstream
	digests  []shard.Digest
}

// survey asks all upstreams for all shards. Those that do not have them all are
// left out.
func (f *fetching) survey(ctx context.Context) ([]say, error) {
	var says []say
	for _, u := range f.all() {
		if !f.offers(u, f.entry) || f.refused.has(u) {
			continue
		}
		s := say{u, make([]shard.Digest, len(f.digests))}
		group, asking := errgroup.WithContext(ctx)
		group.SetLimit(f.opts.Concurrency)
		for i := range s.digests {
			if f.sole[i] == u {
				s.digests[i] = f.digests[i]
				continue
			}
			group.Go(func() (err error) {
				s.digests[i], err = f.digestAt(asking, u, f.manifest.Shard(i+1))
				return err
			})
		}
		switch err := group.Wait(); {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil:
			f.opts.Logger.Debug("upstream not compared", "version", f.entry.Version.String(), "upstream", u.name, "err", err)
		default:
			says = append(says, s)
		}
	}
	return says, nil
}

// digestAt returns the digest of what u sends for s.
func (f *fetching) digestAt(ctx context.Context, u *upstream, s shard.Shard) (d shard.Digest, err error) {
	err = f.retry(ctx, quest{entry: f.entry, refused: new(refusals), may: func(o *upstream) bool { return o == u }, try: func(u *upstream) error {
		body, err := f.getShard(ctx, u, f.entry, s.Number, request{})
		if err != nil {
			return err
		}
		defer body.Close()
		body.bucket, body.step = f.bucket, f.step
		buf, _ := f.buffers.Get().(*[]byte)
		defer f.buffers.Put(buf)
		hash := sha256.New()
		n, err := io.CopyBuffer(hash, io.LimitReader(body, s.Size+1), *buf)
		f.tally.compared(u, n)
		if err == nil && n != s.Size {
			err = wrong(fmt.Errorf("%s: shard %d: %w", u.name, s.Number, shard.ErrSize))
		}
		hash.Sum(d[:0])
		return err
	}})
	return d, err
}

// guesses yields what the shards may be by what upstreams say: all as the first
// says, all as the second says and so on, then all mixtures, but not more than
// maxGuesses of those.
func guesses(says []say) iter.Seq[[]shard.Digest] {
	return func(yield func([]shard.Digest) bool) {
		for _, s := range says {
			if !yield(s.digests) {
				return
			}
		}
		if len(says) == 0 {
			return
		}
		differing := differing(says)
		for n := range maxGuesses {
			guess := slices.Clone(says[0].digests)
			for _, d := range differing {
				guess[d.index] = d.variants[n%len(d.variants)]
				n /= len(d.variants)
			}
			if n > 0 || !yield(guess) {
				return // all have been
			}
		}
	}
}

// difference is a shard in which upstreams differ.
type difference struct {
	index    int
	variants []shard.Digest
}

// differing returns where says differ, of which there must be one.
func differing(says []say) (differing []difference) {
	for i := range says[0].digests {
		d := difference{index: i}
		for _, s := range says {
			if !slices.Contains(d.variants, s.digests[i]) {
				d.variants = append(d.variants, s.digests[i])
			}
		}
		if len(d.variants) > 1 {
			differing = append(differing, d)
		}
	}
	return differing
}

// may reports whether u is to be asked for a shard: in a guess, only who has what is
// guessed.
func (f *fetching) may(number int) func(u *upstream) bool {
	if f.says == nil {
		return nil
	}
	return func(u *upstream) bool {
		return slices.ContainsFunc(f.says, func(s say) bool {
			return s.upstream == u && s.digests[number-1] == f.manifest.Shards[number-1]
		})
	}
}

// accuse names the upstreams that send something else than what was right.
func (f *fetching) accuse(says []say) {
	for _, s := range says {
		for i, d := range s.digests {
			if d != f.digests[i] {
				f.opts.Logger.Warn("upstream has wrong bytes", "version", f.entry.Version.String(), "upstream", s.upstream.name, "shard", i+1)
				f.refused.add(s.upstream, wrong(fmt.Errorf("%s: shard %d: %w", s.upstream.name, i+1, shard.ErrDigest)))
			}
		}
	}
}
