package middle

import (
	"errors"
	"fmt"

	"github.com/shardcast/shardcast/internal/status"
)

// errUnanswered is why a middle that knows no offers is not ready.
var errUnanswered = errors.New("no upstream has answered yet")

// ready returns why readers do not get the newest version on offer here, or nil. An
// arriving version counts, as readers get it while it arrives.
func (m *Middle) ready() error {
	offers := m.pool.Offers()
	if len(offers) == 0 {
		if !m.pool.Answered() {
			return errUnanswered
		}
		return nil
	}
	newest := offers[len(offers)-1]
	// The board comes first: a version that is published meanwhile is on one of the two.
	if m.board.Lists(newest.Version) {
		return nil
	}
	held, err := m.dir.holds(newest)
	switch {
	case err != nil:
		return err
	case held:
		return nil
	default:
		return fmt.Errorf("%s, the newest version that the upstreams list, is not served here yet", newest.Version)
	}
}

// upstreams returns the upstreams as the status page shows them.
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
