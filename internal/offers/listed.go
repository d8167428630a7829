package offers

import (
	"context"
	"slices"
	"sync"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/shard"
)

// Know says that v is the file of m, which has been verified: servers that list it by its
// BLAKE3 list the same as others from then on.
func (o *Offers) Know(v shard.Version, m shard.Manifest) { o.listings.know(v, m) }

// Canonical returns e by its SHA-256, if it is by its BLAKE3 and [Offers.Know] was called
// with its manifest.
func (o *Offers) Canonical(e distfile.Entry) distfile.Entry {
	e.Digest = o.listings.canonical(e).Digest
	return e
}

// Offers returns the versions that can be had by their numbers, ascending, each by the digest
// that counts, see the package comment.
func (o *Offers) Offers() []distfile.Entry { return o.authority.offers() }

// Missing returns why v is not on offer, or for 0 any version. The error matches
// [ErrNoVersion], or [trust.ErrNotTrusted] if it is the publisher's word that is missing.
func (o *Offers) Missing(v shard.Version) error { return o.authority.missing(v) }

// While returns a context for a fetch of e, which ends early when the publisher takes e back: the
// cause says so, and matches [ErrNoVersion]. The caller calls ended when the fetch has.
func (o *Offers) While(ctx context.Context, e distfile.Entry) (within context.Context, ended func()) {
	if !o.Signed() {
		return ctx, func() {}
	}
	within, end := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		for within.Err() == nil {
			changed := o.news.Wait()
			if err := o.authority.over(e); err != nil {
				end(remote.Matching(err, ErrNoVersion))
			}
			select {
			case <-within.Done():
			case <-changed:
			}
		}
	})
	return within, func() {
		end(nil)
		watching.Wait()
	}
}

// Signed reports whether the publisher's releases decide, so that a manifest is its word.
func (o *Offers) Signed() bool { return o.opts.Keeper != nil }

// Unsigned returns what servers list under numbers that the publisher does not list, ascending.
// Without a key there is none.
func (o *Offers) Unsigned() []distfile.Entry {
	if !o.Signed() {
		return nil
	}
	known := o.authority.offers()
	return slices.DeleteFunc(votes{o}.offers(), func(e distfile.Entry) bool {
		_, ok := entryOf(known, e.Version)
		return ok
	})
}

// Stands returns how the release of s stands to the newest one: newest, older, none or refused,
// and why it is refused. Without a key it is empty.
func (o *Offers) Stands(s *remote.Server) (state string, refused error) { return o.authority.stands(s) }

// Count returns the versions that count for a node. For one that waits it warns of a newer
// version that does not count, once.
func (o *Offers) Count(by Taker) Count {
	c := o.authority.count(by)
	if !by.Once && c.Beyond.Settled {
		o.warn(c.Beyond)
	}
	return c
}

// warn logs that a version does not count, unless it was the last.
func (o *Offers) warn(beyond Beyond) {
	o.warning.Lock()
	again := o.warned == beyond.Entry
	o.warned = beyond.Entry
	o.warning.Unlock()
	if !again {
		o.opts.Logger.Warn("newer version not taken up", "version", beyond.Entry.Version.String(),
			"upstreams", beyond.Upstreams, "reason", beyond.Why)
	}
}

// Elsewhere reports whether a server that answered the last question lists e and none of
// others, so that their trouble may not be that of e.
func (o *Offers) Elsewhere(e distfile.Entry, others ...distfile.Entry) bool {
	return slices.ContainsFunc(o.opts.Roster.Servers(), func(s *remote.Server) bool {
		return !o.listings.of(s).failing && o.authority.delivers(s, e) &&
			!slices.ContainsFunc(others, func(other distfile.Entry) bool { return o.authority.delivers(s, other) })
	})
}

// Listed returns up to date facts about one server for operators: whether it answered the
// last question, and the newest version that it lists, or 0.
func (o *Offers) Listed(s *remote.Server) (up bool, newest shard.Version) {
	l := o.listings.of(s)
	for _, e := range l.entries {
		newest = max(newest, e.Version)
	}
	return l.heard && !l.failing, newest
}

// Answered reports whether any server has answered since the start.
func (o *Offers) Answered() bool {
	return slices.ContainsFunc(o.opts.Roster.Servers(), func(s *remote.Server) bool { return o.listings.of(s).heard })
}

// Heard reports whether every server has answered once, or failed to ten times, so that a
// version that is not among the offers does not exist.
func (o *Offers) Heard() bool {
	silent := func(s *remote.Server) bool {
		l := o.listings.of(s)
		return !l.heard && l.misses < givenUp
	}
	return o.opts.Roster.Names.Unresolved() == nil && !slices.ContainsFunc(o.opts.Roster.Servers(), silent)
}

// Complete reports whether a version that is not offered does not exist.
func (o *Offers) Complete() bool { return o.authority.complete() }

// Offered reports whether any server lists e, by either of its digests as far as these
// are known.
func (o *Offers) Offered(e distfile.Entry) bool { return o.authority.offered(e) }

// Without returns the servers that do not list v, and with down also those that did not
// answer the last question.
func (o *Offers) Without(v shard.Version, down bool) (without []*remote.Server) {
	for _, s := range o.opts.Roster.Servers() {
		l := o.listings.of(s)
		lists := slices.ContainsFunc(l.entries, func(e distfile.Entry) bool { return e.Version == v })
		if l.failing && down || !l.failing && !lists {
			without = append(without, s)
		}
	}
	return without
}
