// Package ballot decides which of the versions that upstreams list count, where no publisher's key says
// so: those that a node takes up by itself. It refuses to know servers, and reads no clock.
//
// A version counts if more than half of the configured upstreams list it by one digest, or just half of
// them, the first one included. Of two that is the first; a version that the second lists alone counts
// after a minute, and never if its number is more than 10,000 ahead of all that the first lists or the
// node holds. Nor may a single upstream, or the first of two, go more than 10,000 ahead of what the node
// holds. An upstream that has been down for a minute is left out, and so is one that did not answer at
// the start.
//
// A caller may lean on this: a count depends on the [Ballot] alone, and changes by time alone only at
// the time that it says, see [Ballot.Until].
package ballot

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

const (
	// AloneFor is how long the second of two upstreams has to list a version until it counts
	// although the first does not list it: that one may be about to.
	AloneFor = time.Minute

	// DownFor is how long an upstream is down until the others decide without it. A shorter
	// outage must not leave the decision to one that lies.
	DownFor = time.Minute

	// firstAnswer is how long the first answer of an upstream is awaited after the start, so
	// that one which hangs holds up no other.
	firstAnswer = 5 * time.Second

	// mostAhead is how far a number may be ahead of the highest that is known, on the word of
	// one upstream. An origin needs a month for so many, and a number near the largest would
	// leave none for later versions.
	mostAhead = 10_000
)

// A Taker is a node that takes versions up by itself: a middle, follow, or a download of
// the latest version.
type Taker struct {
	// Highest is the highest number that it holds or has delivered, or 0.
	Highest shard.Version

	// AnyNumber lets a number be any distance ahead of Highest.
	AnyNumber bool

	// Once says that the node does not wait: upstreams that have not answered do not count.
	Once bool
}

// A Count is the versions that count, as listed by enough upstreams, or by the publisher.
type Count struct {
	// Entries are ascending, at most one of each number.
	Entries []distfile.Entry

	// Alone are those of them that count on the word of the second of two upstreams.
	Alone []distfile.Entry

	// Beyond is the newest version that is listed and does not count, if it is newer than
	// all that do. The zero value is none.
	Beyond Beyond

	// Listed are all versions that exist, ascending, also those that no server delivers now.
	Listed []distfile.Entry

	// Epoch is that of the publisher's release, and 0 where there is none. Numbers begin again
	// in a higher one.
	Epoch uint64

	// Err is why nothing new is taken up but by a relay: it matches [trust.ErrExpired] or
	// [trust.ErrNotTrusted]. Without a key it is nil.
	Err error

	// Until is when time alone may change the count, and zero if it cannot.
	Until time.Time
}

// Newest returns the newest version that counts, or the zero entry.
func (c Count) Newest() distfile.Entry {
	if len(c.Entries) == 0 {
		return distfile.Entry{}
	}
	return c.Entries[len(c.Entries)-1]
}

// Beyond is a version that is listed and does not count.
type Beyond struct {
	Entry distfile.Entry

	// Upstreams are those that list it.
	Upstreams []string

	// Why says why it does not count, and what to do.
	Why string

	// Settled says that it does not count as long as the upstreams list what they list.
	Settled bool
}

// A Voice is one configured upstream, as far as it decides which versions count.
type Voice struct {
	Name    string
	Lists   map[distfile.Entry]time.Time // since when, by its last answers; of each file one entry
	Heard   bool                         // it has answered
	Failing bool                         // it did not answer the last question
	Down    time.Time                    // since when it has not answered, and zero if it does
}

// A Ballot is all that decides which versions count.
type Ballot struct {
	Voices []Voice // in the order in which they are configured
	Quorum int     // least number of voices for a version; 0 asks for no more than the rule
	Taker  Taker
	Now    time.Time
}

// leaves returns when the others decide without v, and zero if they do not.
func (b Ballot) leaves(v Voice) time.Time {
	switch {
	case v.Down.IsZero():
		return time.Time{}
	case b.Taker.Once, !v.Heard && v.Failing:
		return v.Down
	case !v.Heard:
		return v.Down.Add(firstAnswer)
	default:
		return v.Down.Add(DownFor)
	}
}

// present returns the voices that decide, and whether others have been left out for less
// than DownFor. If all are down, their last answers stand.
func (b Ballot) present() (present []Voice, lately bool) {
	for _, v := range b.Voices {
		at := b.leaves(v)
		if at.IsZero() || at.After(b.Now) {
			present = append(present, v)
		} else if v.Down.Add(DownFor).After(b.Now) {
			lately = true
		}
	}
	if present == nil {
		return b.Voices, false
	}
	return present, lately
}

// paper is what the voices say of one version.
type paper struct {
	entry distfile.Entry
	votes int
	first bool      // the first voice lists it
	since time.Time // when the last of the voices began to list it
}

// isSecond reports whether the second of two voices lists p, and the first does not.
func (p paper) isSecond(voices []Voice) bool { return len(voices) == 2 && p.votes == 1 && !p.first }

// isBetter reports whether p comes before another file of its number.
func (p paper) isBetter(than paper) bool {
	switch {
	case p.votes != than.votes:
		return p.votes > than.votes
	case p.first != than.first:
		return p.first
	}
	// A name whose addresses are divided lists both.
	return bytes.Compare(p.entry.Digest[:], than.entry.Digest[:]) < 0
}

// Count decides which versions count.
func (b Ballot) Count() Count {
	voices, lately := b.present()
	c := Count{Until: b.Until()}
	if len(voices) == 0 {
		return c
	}
	bounds := b.bounds(voices, lately)
	var beyond paper
	var why string
	best := make(map[shard.Version]paper)
	for _, p := range papers(voices) {
		refused := b.refusal(p, voices, bounds)
		if refused != "" {
			if p.entry.Version > beyond.entry.Version {
				beyond, why = p, refused
			}
			continue
		}
		if was, ok := best[p.entry.Version]; !ok || p.isBetter(was) {
			best[p.entry.Version] = p
		}
	}
	for _, p := range best {
		c.Entries = append(c.Entries, p.entry)
		if p.isSecond(voices) {
			c.Alone = append(c.Alone, p.entry)
		}
	}
	byVersion := func(a, b distfile.Entry) int { return cmp.Compare(a.Version, b.Version) }
	slices.SortFunc(c.Entries, byVersion)
	slices.SortFunc(c.Alone, byVersion)
	if beyond.entry.Version > c.Newest().Version {
		c.Beyond = b.beyond(beyond, voices, why)
	}
	return c
}

// papers returns what the voices say of each version that any of them lists.
func papers(voices []Voice) map[distfile.Entry]paper {
	papers := make(map[distfile.Entry]paper)
	for i, v := range voices {
		for e, since := range v.Lists {
			p := papers[e]
			p.entry, p.votes, p.first = e, p.votes+1, p.first || i == 0
			if since.After(p.since) {
				p.since = since
			}
			papers[e] = p
		}
	}
	return papers
}

// bounds are the highest numbers that one upstream can have taken up.
type bounds struct {
	first  shard.Version // of the first, or of one that decides alone
	second shard.Version // of the second of two
}

// bounds returns the bounds for voices, some of which may have been left out lately.
func (b Ballot) bounds(voices []Voice, lately bool) bounds {
	highest := b.Taker.Highest
	of := bounds{first: highest + mostAhead}
	if b.Taker.AnyNumber || highest == 0 && (!lately || b.Taker.Once) {
		of.first = shard.MaxVersion
	}
	for e := range voices[0].Lists {
		highest = max(highest, min(e.Version, of.first))
	}
	of.second = highest + mostAhead
	return of
}

// farAhead is why a number does not count that is more than mostAhead ahead.
const farAhead = "its number is more than 10000 ahead, and one upstream alone lists it: " +
	"a client can ask for it by its number, and --accept-restart takes it up from the first upstream"

// refusal returns why p does not count, or nothing if it does.
func (b Ballot) refusal(p paper, voices []Voice, of bounds) string {
	n := len(voices)
	most := 2*p.votes > n || 2*p.votes == n && p.first
	second := p.isSecond(voices)
	bound := of.first
	if second {
		bound = of.second
	}
	switch {
	case p.votes < b.Quorum:
		return fmt.Sprintf("%d of %d upstreams list it, and --quorum asks for %d", p.votes, n, b.Quorum)
	case !most && !second:
		return fmt.Sprintf("%d of %d upstreams list it, and more than half have to", p.votes, n)
	case p.votes == 1 && p.entry.Version > bound:
		return farAhead
	case second && len(voices[0].Lists) == 0 && b.Taker.Once:
		return ""
	case second && (b.Taker.Once || b.Now.Sub(p.since) < AloneFor):
		return "the upstream that is named first does not list it"
	}
	return ""
}

// beyond returns p, which does not count, for logs.
func (b Ballot) beyond(p paper, voices []Voice, why string) Beyond {
	beyond := Beyond{Entry: p.entry, Why: why, Settled: why == farAhead || b.Now.Sub(p.since) >= AloneFor}
	for _, v := range voices {
		if _, ok := v.Lists[p.entry]; ok {
			beyond.Upstreams = append(beyond.Upstreams, v.Name)
		}
	}
	return beyond
}

// Until returns when time alone may change the count, and zero if it cannot.
func (b Ballot) Until() (until time.Time) {
	if len(b.Voices) < 2 {
		return time.Time{}
	}
	sooner := func(at time.Time) {
		if at.After(b.Now) && (until.IsZero() || at.Before(until)) {
			until = at
		}
	}
	listers := make(map[distfile.Entry]int)
	for _, v := range b.Voices {
		for e := range v.Lists {
			listers[e]++
		}
	}
	for _, v := range b.Voices {
		if !v.Down.IsZero() {
			sooner(b.leaves(v))
			sooner(v.Down.Add(DownFor))
		}
		for e, since := range v.Lists {
			if listers[e] < len(b.Voices) {
				sooner(since.Add(AloneFor))
			}
		}
	}
	return until
}
