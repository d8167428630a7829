package offers

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/ballot"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/shard"
)

// listings is what all servers list, and what is known of versions beside that. Its
// methods may be called from any goroutine.
type listings struct {
	mu sync.Mutex // guards what follows
	by map[*remote.Server]listing

	// What is known is kept of the newest versions, since a held version must not be taken
	// for another file than its servers list.
	sha256 map[distfile.Entry]shard.Digest // of a version that is listed by its BLAKE3
}

// listing is what one server lists, by its last answer.
type listing struct {
	entries  []distfile.Entry
	since    map[distfile.Entry]time.Time // when it began to list each of them, without counts
	asked    time.Time                    // when it was asked first
	down     time.Time                    // when it stopped to answer, while it is failing
	etag     string                       // of the distribution, or empty
	changed  time.Time                    // when it became another one
	skipped  string                       // what was wrong with lines of it
	failing  bool                         // the server did not answer the last question
	heard    bool                         // it has answered one
	misses   int                          // how often it did not
	askLater time.Time                    // when it may be asked again, because it said so
	askErr   error                        // what it said
	long     bool                         // its shards have names of five digits
	release  released
	said     []string // why it was distrusted, the last texts
}

func newListings() *listings {
	return &listings{by: make(map[*remote.Server]listing), sha256: make(map[distfile.Entry]shard.Digest)}
}

// of returns the listing of s.
func (l *listings) of(s *remote.Server) listing {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.by[s]
}

// update changes the listing of s.
func (l *listings) update(s *remote.Server, change func(of *listing)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.by[s]
	change(&of)
	l.by[s] = of
}

// know notes the digests of a version whose bytes have been verified.
func (l *listings) know(v shard.Version, m shard.Manifest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.BLAKE3 == (shard.Digest{}) {
		return
	}
	if len(l.sha256) >= distfile.MaxEntries { // the oldest goes
		byVersion := func(a, b distfile.Entry) int { return cmp.Compare(a.Version, b.Version) }
		delete(l.sha256, slices.MinFunc(slices.Collect(maps.Keys(l.sha256)), byVersion))
	}
	l.sha256[distfile.Entry{Version: v, Digest: m.BLAKE3}] = m.Digest
}

// voice returns the servers of one upstream, of which a name may have several, as one voice:
// it lists what half of those list that answer, or more.
func (l *listings) voice(name string, servers []*remote.Server) ballot.Voice {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := ballot.Voice{Name: name, Failing: true, Lists: make(map[distfile.Entry]time.Time)}
	var heard, up []listing
	for _, s := range servers {
		of := l.by[s]
		at := of.asked
		switch {
		case of.heard && of.failing:
			heard, at = append(heard, of), of.down
		case of.heard:
			heard, up, at = append(heard, of), append(up, of), time.Time{}
		}
		v.Failing = v.Failing && of.failing
		if at.After(v.Down) {
			v.Down = at
		}
	}
	v.Heard = heard != nil
	if up != nil {
		heard, v.Down = up, time.Time{}
	}
	since := make(map[distfile.Entry][]time.Time)
	for _, of := range heard {
		for e, at := range of.since {
			e = canonical(e, l.sha256)
			since[e] = append(since[e], at)
		}
	}
	need := (len(heard) + 1) / 2
	for e, times := range since {
		if len(times) >= need {
			slices.SortFunc(times, time.Time.Compare)
			v.Lists[e] = times[need-1]
		}
	}
	return v
}

// canonical returns e without a count, by its SHA-256 if that is known.
func (l *listings) canonical(e distfile.Entry) distfile.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return canonical(e, l.sha256)
}

func canonical(e distfile.Entry, sha256 map[distfile.Entry]shard.Digest) distfile.Entry {
	e.Count = 0
	if digest, ok := sha256[e]; ok {
		e.Digest = digest
	}
	return e
}

// lists reports whether s listed e in its last answer, by either digest.
func (l *listings) lists(s *remote.Server, e distfile.Entry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e = canonical(e, l.sha256)
	listed, ok := entryOf(l.by[s].entries, e.Version)
	return ok && canonical(listed, l.sha256).Same(e)
}

// has reports whether s listed the number v in its last answer.
func (l *listings) has(s *remote.Server, v shard.Version) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := entryOf(l.by[s].entries, v)
	return ok
}

// entryOf returns the one of entries with the number v.
func entryOf(entries []distfile.Entry, v shard.Version) (distfile.Entry, bool) {
	i, ok := slices.BinarySearchFunc(entries, v, func(e distfile.Entry, v shard.Version) int {
		return cmp.Compare(e.Version, v)
	})
	if !ok {
		return distfile.Entry{}, false
	}
	return entries[i], true
}

// all returns what servers list, in their order, by the SHA-256 where that is known.
func (l *listings) all(servers []*remote.Server) (entries []distfile.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range servers {
		for _, e := range l.by[s].entries {
			e.Digest = canonical(e, l.sha256).Digest
			entries = append(entries, e)
		}
	}
	return entries
}

// chosen returns the versions that servers list, ascending, each by the digest that counts.
func (l *listings) chosen(servers []*remote.Server) []distfile.Entry {
	offers := l.all(servers)
	votes := make(map[distfile.Entry]int) // without the count, which not all state
	for _, e := range offers {
		e.Count = 0
		votes[e]++
	}
	slices.SortStableFunc(offers, func(a, b distfile.Entry) int {
		a.Count, b.Count = 0, 0
		return cmp.Or(cmp.Compare(a.Version, b.Version), cmp.Compare(votes[b], votes[a]))
	})
	return slices.CompactFunc(offers, func(a, b distfile.Entry) bool { return a.Version == b.Version })
}
