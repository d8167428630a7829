package offers

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/ballot"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/shard"
)

type (
	// A Taker is a node that takes versions up by itself.
	Taker = ballot.Taker

	// A Count is the versions that count for a [Taker].
	Count = ballot.Count

	// Beyond is a version that is listed and does not count.
	Beyond = ballot.Beyond
)

// An authority says which versions there are. There are two: [votes], where the upstreams
// decide by their lists, and [signed], where the publisher does by a release. Both answer the
// same questions, so no other code asks which of them it is.
type authority interface {
	// offers returns the versions that can be had by their numbers, ascending.
	offers() []distfile.Entry

	// count returns the versions that count for a node.
	count(by Taker) Count

	// until returns when time alone may change the count, and zero if it cannot.
	until() time.Time

	// missing returns why v is not on offer, or for 0 any version.
	missing(v shard.Version) error

	// offered reports whether e exists, and complete whether a version that does not is gone.
	offered(e distfile.Entry) bool
	complete() bool

	// withdrawn finds out whether v was declared bad.
	withdrawn(ctx context.Context, v shard.Version) bool

	// delivers reports whether s may be asked for shards of e, and describes whether it may
	// be asked for the manifest of e.
	delivers(s *remote.Server, e distfile.Entry) bool
	describes(s *remote.Server, e distfile.Entry) bool

	// judge returns an error unless m, which has come from a server, may be the manifest of
	// its entry.
	judge(m Manifest) error

	// agree returns nil if m states the shards of its entry beyond doubt, see [Offers.Agree].
	agree(ctx context.Context, m Manifest) error

	// over returns why a fetch of e that is under way has to end, or nil.
	over(e distfile.Entry) error

	// heard takes the release of s, nil for none. Where it is trusted, or refused, that is known
	// when heard returns. Nothing is left of a server that left is called with.
	heard(ctx context.Context, s *remote.Server, text []byte)
	left(s *remote.Server)

	// unheard takes the reason why the release of s has not come.
	unheard(s *remote.Server, err error)

	// stands returns how the release of s stands to the newest one, and why it is refused.
	stands(s *remote.Server) (state string, refused error)

	// release returns the text that a relay serves, see [Offers.Release].
	release() (text []byte, known bool)
}

// votes is the authority of upstreams without a key: what enough of them list counts.
type votes struct{ of *Offers }

func (v votes) offers() []distfile.Entry { return v.of.listings.chosen(v.of.opts.Roster.Servers()) }

func (v votes) count(by Taker) Count {
	c := v.ballot(by).Count()
	c.Listed = c.Entries
	return c
}

func (v votes) until() time.Time { return v.ballot(Taker{}).Until() }

func (v votes) missing(number shard.Version) error {
	offers := v.offers()
	if number == 0 || len(offers) == 0 {
		return fmt.Errorf("%w: the servers offer nothing yet", ErrNoVersion)
	}
	return fmt.Errorf("%w: %s is not among the %d on offer, from %s to %s",
		ErrNoVersion, number, len(offers), offers[0].Version, offers[len(offers)-1].Version)
}

func (v votes) complete() bool { return v.of.Heard() }

func (v votes) offered(e distfile.Entry) bool {
	return slices.ContainsFunc(v.of.opts.Roster.Servers(), func(s *remote.Server) bool { return v.delivers(s, e) })
}

func (v votes) withdrawn(ctx context.Context, number shard.Version) bool {
	return v.of.mostSayGone(ctx, number)
}

func (v votes) delivers(s *remote.Server, e distfile.Entry) bool { return v.of.listings.lists(s, e) }

func (v votes) describes(s *remote.Server, e distfile.Entry) bool { return v.of.listings.lists(s, e) }

func (v votes) judge(m Manifest) error {
	if v.of.isOf(m.Stated, m.Entry) {
		return nil
	}
	return fmt.Errorf("%w: the file's digest is %s there, and %s in the distribution",
		shard.ErrManifest, m.Stated.Digest, m.Entry.Digest)
}

func (v votes) agree(ctx context.Context, m Manifest) error { return v.of.mostState(ctx, m) }

func (v votes) over(distfile.Entry) error { return nil }

func (v votes) heard(context.Context, *remote.Server, []byte) {}

func (v votes) left(*remote.Server) {}

func (v votes) unheard(*remote.Server, error) {}

func (v votes) stands(*remote.Server) (state string, refused error) { return "", nil }

func (v votes) release() (text []byte, known bool) { return v.of.relayed() }

// ballot returns all that decides which versions count now.
func (v votes) ballot(by Taker) ballot.Ballot {
	o := v.of
	b := ballot.Ballot{Quorum: o.opts.Quorum, Taker: by, Now: time.Now()}
	for _, s := range o.opts.Roster.Standings() {
		v := o.listings.voice(s.URL, s.Servers)
		if len(s.Servers) == 0 {
			v.Down, v.Failing = o.began, s.Err != nil
		}
		b.Voices = append(b.Voices, v)
	}
	return b
}
