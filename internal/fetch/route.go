package fetch

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/offers"
	"github.com/shardcast/shardcast/internal/shard"
)

const (
	// MostSteps is how many deltas may lead to a version, one after the other. Each takes memory while the version is
	// made, and makes all of a version that is not kept.
	MostSteps = 8

	// mostBetween is how many manifests of versions in between are asked for, and routePatience for how long: the
	// version itself waits meanwhile.
	mostBetween   = 16
	routePatience = 5 * time.Second
)

// A step is one delta of a route: what it makes, and what the manifest of that says of it.
type step struct {
	to   offers.Manifest // Entry and Stated, without its lists: those of many versions are some megabytes each
	line shard.Delta
}

// A route is the deltas that lead from a base to a version, one after the other, of size bytes together.
type route struct {
	base  Base
	steps []step
	size  int64
}

// from is the number that the base had.
func (r route) from() shard.Version { return r.steps[0].line.Base }

// before is the route that begins with one more delta.
func (r route) before(to offers.Manifest, line shard.Delta) route {
	to.Stated.Shards, to.Stated.Labels, to.Stated.Deltas = nil, nil, nil
	return route{steps: append([]step{{to, line}}, r.steps...), size: r.size + line.Size}
}

// A way looks for the route to a version.
type way struct {
	pays     func(size int64, deltas int) bool // see [trade.pays]
	base     func(ctx context.Context, digest shard.Digest) (Base, error)
	manifest func(ctx context.Context, e distfile.Entry) (offers.Manifest, bool)
}

// find returns the smallest delta of m whose base is here, or else the deltas that lead to m over versions between
// and are the smallest together. The route has no base if there are none.
func (w way) find(ctx context.Context, m offers.Manifest) (route, error) {
	open := w.add(nil, route{}, m)
	var failed error
	for _, r := range open {
		found, err := w.base(ctx, r.steps[0].line.BaseDigest)
		if found != nil {
			r.base = found
			return r, nil
		}
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		return route{}, failed
	}
	ctx, cancel := context.WithTimeout(ctx, routePatience)
	defer cancel()
	seen := map[shard.Digest]bool{m.Stated.Digest: true}
	for asked := 0; len(open) > 0 && asked < mostBetween && ctx.Err() == nil; {
		r := open[0]
		open = open[1:]
		line := r.steps[0].line
		if seen[line.BaseDigest] {
			continue // by a smaller route
		}
		seen[line.BaseDigest] = true
		if found, _ := w.base(ctx, line.BaseDigest); found != nil {
			r.base = found
			return r, nil
		}
		if len(r.steps) == MostSteps {
			continue
		}
		asked++
		if between, ok := w.manifest(ctx, distfile.Entry{Version: line.Base, Digest: line.BaseDigest}); ok {
			open = w.add(open, r, between)
		}
	}
	return route{}, nil
}

// add adds the routes that begin with a delta to what m describes, and go on by r, to open, the smallest first.
func (w way) add(open []route, r route, m offers.Manifest) []route {
	for _, line := range m.Stated.Deltas {
		if longer := r.before(m, line); w.pays(longer.size, len(longer.steps)) {
			open = append(open, longer)
		}
	}
	slices.SortStableFunc(open, func(a, b route) int { return cmp.Compare(a.size, b.size) })
	return open
}

// between returns the manifest of a version that is on offer. It states the digest of e.
func (f *fetching) between(ctx context.Context, e distfile.Entry) (offers.Manifest, bool) {
	p := f.pool
	offered := p.offers.Offers()
	i := slices.IndexFunc(offered, func(o distfile.Entry) bool { return o.Version == e.Version })
	if i < 0 {
		return offers.Manifest{}, false // it was retired
	}
	m, err := p.offers.Manifest(ctx, offered[i])
	if err != nil || m.Digest != e.Digest {
		return offers.Manifest{}, false // without it all is fetched
	}
	return offers.Manifest{Entry: offered[i], Stated: m}, true
}
