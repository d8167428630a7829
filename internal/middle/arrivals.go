package middle

import (
	"context"
	"slices"
	"sync"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

// arrivals are the fetches that are under way, by the entry that is fetched. The zero value
// has none. Its methods may be called from any goroutine.
type arrivals struct {
	mu sync.Mutex // guards of
	of map[distfile.Entry]*underway
}

// underway is one fetch.
type underway struct {
	end     context.CancelCauseFunc
	headway fetch.Headway
}

// begin notes a fetch of e that end ends.
func (a *arrivals) begin(e distfile.Entry, end context.CancelCauseFunc) *underway {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of == nil {
		a.of = make(map[distfile.Entry]*underway)
	}
	a.of[e] = &underway{end: end}
	return a.of[e]
}

// end ends the fetch of e because of a cause.
func (a *arrivals) end(e distfile.Entry, cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.of[e].end(cause)
}

// ended forgets the fetch of e.
func (a *arrivals) ended(e distfile.Entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.of[e].end(nil)
	delete(a.of, e)
}

// now returns the entries, and those that bring next to nothing.
func (a *arrivals) now() (all, stalled []distfile.Entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for e, u := range a.of {
		all = append(all, e)
		if u.headway.Stalled() {
			stalled = append(stalled, e)
		}
	}
	return all, stalled
}

// stalls reports whether the fetch of a version brings next to nothing.
func (a *arrivals) stalls(v shard.Version) bool {
	_, stalled := a.now()
	return slices.ContainsFunc(stalled, func(e distfile.Entry) bool { return e.Version == v })
}
