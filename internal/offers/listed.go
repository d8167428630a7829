package offers

import (
	"cmp"
	"maps"
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/shard"
)

// known is what is known of versions beside the listings: for the newest ones, since a
// held version must not be taken for another file than its servers list.
type known struct {
	sha256     map[distfile.Entry]shard.Digest // the SHA-256 of a version that is listed by its BLAKE3
	manifested map[distfile.Entry]bool         // a server has a manifest that agrees with the listed digest
}

func newKnown() known {
	return known{sha256: make(map[distfile.Entry]shard.Digest), manifested: make(map[distfile.Entry]bool)}
}

// canonical returns e without a count, by its SHA-256 if that is known.
func (k known) canonical(e distfile.Entry) distfile.Entry {
	e.Count = 0
	if digest, ok := k.sha256[e]; ok {
		e.Digest = digest
	}
	return e
}

// keep adds to what is known of versions, of which the oldest goes where there are too
// many.
func keep[T any](known map[distfile.Entry]T, e distfile.Entry, value T) {
	if len(known) >= distfile.MaxEntries {
		byVersion := func(a, b distfile.Entry) int { return cmp.Compare(a.Version, b.Version) }
		delete(known, slices.MinFunc(slices.Collect(maps.Keys(known)), byVersion))
	}
	known[e] = value
}

// Know says that v is the file of m, which has been verified: servers that list it by its
// BLAKE3 list the same as others from then on.
func (o *Offers) Know(v shard.Version, m shard.Manifest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	keep(o.known.manifested, distfile.Entry{Version: v, Digest: m.Digest}, true)
	if m.BLAKE3 != (shard.Digest{}) {
		keep(o.known.sha256, distfile.Entry{Version: v, Digest: m.BLAKE3}, m.Digest)
	}
}

// Canonical returns e by its SHA-256, if it is by its BLAKE3 and [Offers.Know] was called
// with its manifest.
func (o *Offers) Canonical(e distfile.Entry) distfile.Entry {
	o.mu.Lock()
	defer o.mu.Unlock()
	count := e.Count
	e = o.known.canonical(e)
	e.Count = count
	return e
}

// Offers returns the versions that servers list, ascending, each by the digest that
// counts, see the package comment.
func (o *Offers) Offers() []distfile.Entry {
	servers := o.opts.Roster.Servers()
	o.mu.Lock()
	defer o.mu.Unlock()
	var offers []distfile.Entry
	votes := make(map[distfile.Entry]int) // without the count, which not all state
	for _, s := range servers {
		for _, e := range o.listings[s].entries {
			plain := o.known.canonical(e)
			votes[plain]++
			e.Digest = plain.Digest
			offers = append(offers, e)
		}
	}
	slices.SortStableFunc(offers, func(a, b distfile.Entry) int {
		a.Count, b.Count = 0, 0
		return cmp.Or(
			cmp.Compare(a.Version, b.Version),
			compareBool(o.known.manifested[b], o.known.manifested[a]),
			cmp.Compare(votes[b], votes[a]),
		)
	})
	return slices.CompactFunc(offers, func(a, b distfile.Entry) bool { return a.Version == b.Version })
}

// compareBool orders false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Listed returns up to date facts about one server for operators: whether it answered the
// last question, and the newest version that it lists, or 0.
func (o *Offers) Listed(s *remote.Server) (up bool, newest shard.Version) {
	l := o.listing(s)
	for _, e := range l.entries {
		newest = max(newest, e.Version)
	}
	return l.heard && !l.failing, newest
}

// Answered reports whether any server has answered since the start.
func (o *Offers) Answered() bool {
	return slices.ContainsFunc(o.opts.Roster.Servers(), func(s *remote.Server) bool { return o.listing(s).heard })
}

// Heard reports whether every server has answered once, or failed to ten times, so that a
// version that is not among the offers does not exist.
func (o *Offers) Heard() bool {
	silent := func(s *remote.Server) bool {
		l := o.listing(s)
		return !l.heard && l.misses < givenUp
	}
	return o.opts.Roster.Unresolved() == nil && !slices.ContainsFunc(o.opts.Roster.Servers(), silent)
}

// Offered reports whether any server lists e, by either of its digests as far as these
// are known.
func (o *Offers) Offered(e distfile.Entry) bool {
	return slices.ContainsFunc(o.opts.Roster.Servers(), func(s *remote.Server) bool { return o.lists(s, e) })
}

// lists reports whether s listed e in its last answer.
func (o *Offers) lists(s *remote.Server, e distfile.Entry) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	e = o.known.canonical(e)
	return slices.ContainsFunc(o.listings[s].entries, func(l distfile.Entry) bool { return o.known.canonical(l) == e })
}

// Without returns the servers that do not list v, and with down also those that did not
// answer the last question.
func (o *Offers) Without(v shard.Version, down bool) (without []*remote.Server) {
	for _, s := range o.opts.Roster.Servers() {
		l := o.listing(s)
		lists := slices.ContainsFunc(l.entries, func(e distfile.Entry) bool { return e.Version == v })
		if l.failing && down || !l.failing && !lists {
			without = append(without, s)
		}
	}
	return without
}
