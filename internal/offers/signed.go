package offers

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/ballot"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/trust"
)

// signed is the authority of the publisher: what exists is what the newest release lists that a
// pinned key has signed, whichever server sent it. A line of a server's distribution says only
// that this server has the number.
type signed struct {
	of     *Offers
	keeper *trust.Keeper

	mu    sync.Mutex // guards since
	since time.Time  // when the newest release was heard first
}

// newest returns the newest release, which is empty while there is none.
func (s *signed) newest() release.Release {
	newest, _ := s.keeper.Newest()
	return newest.Release
}

// listed returns the versions that exist by the release r, ascending.
func listed(r release.Release) []distfile.Entry {
	all := make([]distfile.Entry, 0, len(r.Entries))
	for _, line := range r.Entries {
		if !line.Withdrawn {
			all = append(all, distfile.Entry{Version: line.Version, Digest: line.Digest})
		}
	}
	return all
}

// available returns those of all whose numbers servers list.
func (s *signed) available(all []distfile.Entry) []distfile.Entry {
	held := make(map[shard.Version]bool, len(all))
	for _, server := range s.of.opts.Roster.Servers() {
		for _, e := range s.of.listings.of(server).entries {
			held[e.Version] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(e distfile.Entry) bool { return !held[e.Version] })
}

func (s *signed) offers() []distfile.Entry { return s.available(listed(s.newest())) }

// count has all that can be had count, whatever their numbers. It looks at one release alone, though another
// one may come meanwhile: numbers of two epochs do not mix.
func (s *signed) count(Taker) Count {
	r := s.newest()
	c := Count{Listed: listed(r), Epoch: r.Epoch, Until: s.until(), Err: s.keeper.Check()}
	c.Entries = s.available(c.Listed)
	if len(c.Listed) == 0 {
		return c
	}
	if last := c.Listed[len(c.Listed)-1]; last.Version > c.Newest().Version {
		s.mu.Lock()
		settled := time.Since(s.since) >= ballot.AloneFor
		s.mu.Unlock()
		c.Beyond = Beyond{
			Entry: last, Why: "the publisher lists it, and no server that answers has it", Settled: settled,
		}
	}
	return c
}

func (s *signed) until() (until time.Time) {
	s.mu.Lock()
	settled := s.since.Add(ballot.AloneFor)
	s.mu.Unlock()
	now := s.keeper.Time()
	for _, at := range []time.Time{settled, s.newest().Expires} {
		if at.After(now) && (until.IsZero() || at.Before(until)) {
			until = at
		}
	}
	return until
}

// missing says who lists a version that the publisher does not.
func (s *signed) missing(v shard.Version) error {
	if _, ok := s.keeper.Newest(); !ok {
		return s.keeper.Check()
	}
	r := s.newest()
	line, ok := r.Find(v)
	all := listed(r)
	var by []string
	for _, server := range s.of.opts.Roster.Servers() {
		if s.of.listings.has(server, v) {
			by = append(by, server.Name)
		}
	}
	switch {
	case v == 0 && len(all) == 0:
		return fmt.Errorf("%w: the publisher lists none", ErrNoVersion)
	case v == 0:
		return fmt.Errorf("%w: no server has any of the %d that the publisher lists", ErrNoVersion, len(all))
	case ok && line.Withdrawn:
		return fmt.Errorf("%w: %s was withdrawn by its publisher", ErrNoVersion, v)
	case ok:
		return fmt.Errorf("%w: the publisher lists %s, and no server that answers has it", ErrNoVersion, v)
	case by != nil:
		return fmt.Errorf("%w: %s is listed by %s, and not by the publisher", trust.ErrNotTrusted, v,
			strings.Join(by, ", "))
	}
	return fmt.Errorf("%w: the publisher does not list %s", ErrNoVersion, v)
}

func (s *signed) complete() bool {
	_, ok := s.keeper.Newest()
	return ok
}

func (s *signed) offered(e distfile.Entry) bool {
	line, ok := s.newest().Find(e.Version)
	return ok && !line.Withdrawn && line.Digest == e.Digest
}

func (s *signed) withdrawn(_ context.Context, v shard.Version) bool {
	line, _ := s.newest().Find(v)
	return line.Withdrawn
}

// over reports whether e was withdrawn, or its number given to another file. One that is merely
// not listed any more was retired, and a fetch of it that has begun may end.
func (s *signed) over(e distfile.Entry) error {
	line, ok := s.newest().Find(e.Version)
	switch {
	case ok && line.Withdrawn:
		return fmt.Errorf("%s was withdrawn by its publisher", e.Version)
	case ok && line.Digest != e.Digest:
		return fmt.Errorf("the publisher lists another file as %s now", e.Version)
	}
	return nil
}

func (s *signed) delivers(server *remote.Server, e distfile.Entry) bool {
	return s.of.listings.has(server, e.Version) && s.over(e) == nil
}

// describes has servers asked that do not list e, too: a manifest speaks for itself.
func (s *signed) describes(server *remote.Server, e distfile.Entry) bool {
	l := s.of.listings.of(server)
	return (s.of.listings.has(server, e.Version) || l.heard && !l.failing) && s.over(e) == nil
}

func (s *signed) judge(m Manifest) error {
	line, ok := s.newest().Find(m.Entry.Version)
	if !ok || line.Withdrawn || line.Digest != m.Entry.Digest {
		err := fmt.Errorf("the publisher does not list this file as %s any more", m.Entry.Version)
		return &roster.Setback{Err: remote.Matching(err, ErrNoVersion), What: roster.Stop}
	}
	if got := shard.Digest(sha256.Sum256(m.Text)); got != line.Manifest {
		return remote.Matching(fmt.Errorf("%w: it has the digest %s, and the publisher states %s "+
			"(a relay of before signed versions writes manifests anew: upgrade it)",
			shard.ErrManifest, got, line.Manifest), trust.ErrNotTrusted)
	}
	if m.Stated.Digest != line.Digest || m.Stated.Size != line.Size {
		err := fmt.Errorf("the publisher contradicts itself: %s has %d bytes with the digest %s by its release, "+
			"and %d bytes with %s by its manifest",
			m.Entry.Version, line.Size, line.Digest, m.Stated.Size, m.Stated.Digest)
		return &roster.Setback{Err: remote.Matching(err, trust.ErrNotTrusted), What: roster.Stop}
	}
	return nil
}

// agree needs no other word.
func (s *signed) agree(context.Context, Manifest) error { return nil }

func (s *signed) heard(ctx context.Context, server *remote.Server, text []byte) {
	news, err := s.keeper.Offer(ctx, server.Name, text)
	if news {
		s.mu.Lock()
		s.since = time.Now()
		s.mu.Unlock()
	}
	if err != nil { // the keeper has logged it
		s.of.opts.Metrics.Failed(s.of.opts.Roster.Number(server), metrics.Untrusted)
	}
}

func (s *signed) unheard(server *remote.Server, err error) { s.keeper.Failed(server.Name, err) }

func (s *signed) left(server *remote.Server) { s.keeper.Forget(server.Name) }

func (s *signed) stands(server *remote.Server) (state string, refused error) {
	for _, known := range s.keeper.Servers() {
		if known.Name == server.Name {
			return string(known.State), known.Err
		}
	}
	return "", nil
}

func (s *signed) release() (text []byte, known bool) {
	newest, ok := s.keeper.Newest()
	return newest.Bytes(), ok
}
