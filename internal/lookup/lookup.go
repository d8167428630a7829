// Package lookup finds the versions on offer that a caller means: all, one by its number, the newest that counts, or
// the newest with labels; it waits for one that is to come. It downloads none, and does not decide which versions
// count: package offers does.
package lookup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

// A Finder finds versions among those that the upstreams of a pool offer. Its methods may be called from any
// goroutine.
type Finder struct {
	pool   *fetch.Pool
	logger *slog.Logger
}

// New returns a Finder that asks through pool.
func New(pool *fetch.Pool, logger *slog.Logger) *Finder {
	return &Finder{pool: pool, logger: logger}
}

// A Listing is one version on offer.
type Listing struct {
	Entry distfile.Entry

	// Manifest is nil where no server has one. It comes without the shards' digests, since
	// there may be many versions; the number of shards is in Entry.Count.
	Manifest *shard.Manifest

	// Signed says that the publisher lists the version. It is false without a key.
	Signed bool
}

const (
	// manifestsAtOnce bounds the memory of a listing.
	manifestsAtOnce = 8

	// mostManifests and manifestPatience bound the work and the time of a listing, however
	// many versions a server lists.
	mostManifests    = 1000
	manifestPatience = 30 * time.Second
)

// List returns the versions on offer, ascending, with the manifests of the newest 1,000, as
// far as they come within 30 s. With a key these are the signed ones, and it returns those
// beside them that servers list and the publisher does not. Errors are those of [fetch.Pool.Refresh].
func (f *Finder) List(ctx context.Context) ([]Listing, error) {
	if err := f.pool.Refresh(ctx, fetch.Soon); err != nil {
		return nil, err
	}
	offers := f.pool.Offers()
	listings := make([]Listing, len(offers))
	for i, e := range offers {
		listings[i] = Listing{Entry: e, Signed: f.pool.Signed()}
	}
	bounded, cancel := context.WithTimeout(ctx, manifestPatience)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(manifestsAtOnce)
	first := max(0, len(offers)-mostManifests)
	for i := len(offers) - 1; i >= first && bounded.Err() == nil; i-- {
		group.Go(func() error {
			if !f.describe(bounded, &listings[i]) {
				return context.Cause(bounded)
			}
			return nil
		})
	}
	late := group.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if late != nil || first > 0 {
		f.logger.Warn("not all manifests were asked for", "versions", len(offers), "most", mostManifests,
			"dur", manifestPatience)
	}
	for _, e := range f.pool.Unsigned() {
		listings = append(listings, Listing{Entry: e})
	}
	slices.SortStableFunc(listings, func(a, b Listing) int { return cmp.Compare(a.Entry.Version, b.Entry.Version) })
	return listings, nil
}

// Describe returns the listing of a version on offer, without a manifest if none can be had. The error is the cause
// of ctx's end.
func (f *Finder) Describe(ctx context.Context, e distfile.Entry) (Listing, error) {
	l := Listing{Entry: e, Signed: f.pool.Signed()}
	if !f.describe(ctx, &l) {
		return Listing{}, context.Cause(ctx)
	}
	return l, nil
}

// describe completes a listing by a manifest, and reports whether there was time for it.
func (f *Finder) describe(ctx context.Context, l *Listing) bool {
	m, err := f.pool.Manifest(ctx, l.Entry)
	switch {
	case err == nil:
		l.Entry.Count = len(m.Shards)
		m.Shards = nil
		l.Manifest = &m
	case ctx.Err() != nil:
		return false
	case !errors.Is(err, fs.ErrNotExist):
		f.logger.Warn("manifest left out", "version", l.Entry.Version.String(), "err", err)
	}
	return true
}

// A wish is a version that a caller wants.
type wish struct {
	name    string                                                // in logs
	offered func(ctx context.Context) (e distfile.Entry, ok bool) // as it is on offer now
	missing func(offers []distfile.Entry) error                   // why it is not among others
}

// numbered is the wish for version, or for 0 the newest one that counts.
func (f *Finder) numbered(version shard.Version) wish {
	w := wish{name: version.String(), offered: func(context.Context) (distfile.Entry, bool) { return f.offer(version) }}
	w.missing = func([]distfile.Entry) error { return f.pool.Missing(version) }
	if version == 0 {
		w.name, w.missing = "latest", f.noLatest
	}
	return w
}

// noLatest returns why none of offers is the newest version.
func (f *Finder) noLatest(offers []distfile.Entry) error {
	count := f.count()
	switch {
	case count.Err != nil:
		return count.Err
	case len(offers) == 0 || len(count.Beyond.Upstreams) == 0:
		return f.pool.Missing(0)
	}
	return fmt.Errorf("%w: no version is the latest by the word of enough servers; %s is listed by %s: %s",
		fetch.ErrNoVersion, count.Beyond.Entry.Version, strings.Join(count.Beyond.Upstreams, ", "), count.Beyond.Why)
}

// Find returns the offer of version, from whichever server lists it, or for 0 that of the
// newest version that counts, see package offers. Before it fails for lack of one it asks
// all servers. Errors match [fetch.ErrNoVersion], or are those of
// [fetch.Pool.Reach].
func (f *Finder) Find(ctx context.Context, version shard.Version) (distfile.Entry, error) {
	e, err := f.find(ctx, f.numbered(version), f.pool.Reach)
	if err == nil {
		f.warnBeyond(version)
	}
	return e, err
}

// find returns the offer of what is wanted. It first asks by ask.
func (f *Finder) find(ctx context.Context, want wish, ask func(context.Context) error) (distfile.Entry, error) {
	if err := ask(ctx); err != nil {
		return distfile.Entry{}, err
	}
	if e, ok := want.offered(ctx); ok {
		return e, nil
	}
	if err := f.pool.Refresh(ctx, fetch.All); err != nil {
		return distfile.Entry{}, err
	}
	if e, ok := want.offered(ctx); ok {
		return e, nil
	}
	return distfile.Entry{}, want.missing(f.pool.Offers())
}

// Await is [Finder.Find], but waits up to a time until a server answers and offers the
// version, or any version for 0.
func (f *Finder) Await(ctx context.Context, version shard.Version, wait time.Duration) (distfile.Entry, error) {
	e, err := f.await(ctx, f.numbered(version), wait)
	if err == nil {
		f.warnBeyond(version)
	}
	return e, err
}

// await is Await for what is wanted.
func (f *Finder) await(ctx context.Context, want wish, wait time.Duration) (distfile.Entry, error) {
	if wait <= 0 {
		return f.find(ctx, want, f.pool.Reach)
	}
	if e, ok := f.awaitOffer(ctx, want, wait); ok || ctx.Err() != nil {
		return e, context.Cause(ctx)
	}
	// The time is over: one more question, without the attempts of the options.
	return f.find(ctx, want, func(ctx context.Context) error { return f.pool.Refresh(ctx, fetch.Soon) })
}

// PollEvery is the time between two questions to servers that do not announce new
// versions, while a version is awaited.
const PollEvery = 2 * time.Second

// awaitOffer follows the servers until one of them offers what is wanted, or for so long.
func (f *Finder) awaitOffer(ctx context.Context, want wish, wait time.Duration) (e distfile.Entry, ok bool) {
	ctx, found := context.WithTimeout(ctx, wait)
	defer found()
	// Most versions are there, and no connection is held for the news of others then.
	if f.pool.Refresh(ctx, fetch.Soon) == nil {
		if e, ok := want.offered(ctx); ok {
			return e, true
		}
	}
	if ctx.Err() == nil {
		f.logger.Info("waiting for the version", "version", want.name, "dur", wait)
	}
	f.pool.Follow(ctx, PollEvery, func() {
		// The pool's offers may be old, or those of the quickest server alone.
		if _, known := want.offered(ctx); known && f.pool.Refresh(ctx, fetch.Soon) == nil {
			e, ok = want.offered(ctx)
		}
		if ok {
			found()
		}
	})
	return e, ok
}

// count returns the versions that count for a node that does not wait.
func (f *Finder) count() fetch.Count { return f.pool.Count(fetch.Taker{Once: true}) }

// offer returns version as it is on offer, or the newest version that counts for 0.
func (f *Finder) offer(version shard.Version) (distfile.Entry, bool) {
	if version == 0 {
		return f.latest()
	}
	offers := f.pool.Offers()
	i := slices.IndexFunc(offers, func(e distfile.Entry) bool { return e.Version == version })
	if i < 0 {
		return distfile.Entry{}, false
	}
	return offers[i], true
}

// latest returns the newest version that counts.
func (f *Finder) latest() (distfile.Entry, bool) {
	count := f.count()
	e := count.Newest()
	return e, e.Version != 0 && count.Err == nil
}

// warnBeyond warns of a newer version that does not count, if version is 0, the newest.
func (f *Finder) warnBeyond(version shard.Version) {
	if b := f.count().Beyond; version == 0 && b.Entry.Version != 0 {
		f.logger.Warn("newer version not taken up", "version", b.Entry.Version.String(),
			"upstreams", b.Upstreams, "reason", b.Why)
	}
}
