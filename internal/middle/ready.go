package middle

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/status"
)

// errUnheard is why a middle is not ready that cannot know what there is.
var errUnheard = errors.New("no upstream has said yet what it offers")

// ready returns why the newest version that the upstreams list is not served here, or
// nil. One that is arriving is: who asks for it is given it as it comes.
func (m *Middle) ready() error {
	offers := m.pool.Offers()
	if len(offers) == 0 {
		if !m.pool.Answered() {
			return errUnheard
		}
		return nil
	}
	newest := offers[len(offers)-1]
	if m.board.Lists(newest.Version) {
		return nil
	}
	held, err := m.store.Distribution()
	switch {
	case err != nil:
		return err
	case slices.ContainsFunc(held, newest.Same):
		return nil
	default:
		return fmt.Errorf("%s, the newest version that the upstreams list, is not served here yet", newest.Version)
	}
}

// announced is when versions were first heard to be on offer, of those that still are.
type announced struct {
	mu sync.Mutex // guards at
	at map[distfile.Entry]time.Time
}

// hear notes what is on offer now.
func (a *announced) hear(offers []distfile.Entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	at := make(map[distfile.Entry]time.Time, len(offers))
	for _, e := range offers {
		e.Count = 0
		at[e] = now
		if first, ok := a.at[e]; ok {
			at[e] = first
		}
	}
	a.at = at
}

// since returns how long v has been on offer by one of digests, and whether it is.
func (a *announced) since(v shard.Version, digests ...shard.Digest) (time.Duration, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range digests {
		if first, ok := a.at[distfile.Entry{Version: v, Digest: d}]; ok {
			return time.Since(first), true
		}
	}
	return 0, false
}

// upstreams returns how those are that are followed, for the status page.
func (m *Middle) upstreams() []status.Upstream {
	standings := m.pool.Standings()
	all := make([]status.Upstream, 0, len(standings))
	for _, s := range standings {
		u := status.Upstream{
			Upstream: s.URL, State: s.State, Up: s.Up, Throughput: int64(s.Throughput),
			Error: status.Text(s.Err), ErrorTime: s.At.UTC(),
		}
		if s.Settled {
			u.Success = &s.Success
		}
		if s.Newest > 0 {
			u.Newest = s.Newest.String()
		}
		all = append(all, u)
	}
	return all
}
