package middle

import (
	"errors"
	"fmt"
	"slices"

	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/status"
)

// errUnanswered is why a middle that knows no offers is not ready.
var errUnanswered = errors.New("no upstream has answered yet")

// ready returns why readers do not get the newest version that counts here, or nil. An
// arriving version counts while it gets on, as readers get it while it arrives.
func (m *Middle) ready() error {
	v, err := m.view()
	switch {
	case err != nil:
		return err
	case errors.Is(v.doubt, fetch.ErrNotTrusted):
		return v.doubt
	case len(v.offers) == 0:
		if !m.pool.Answered() {
			return errUnanswered
		}
		return nil
	case v.isRestart():
		return fmt.Errorf("the upstreams list no version after %s, and none of those here up to %s: "+
			"if the origin began anew, give --accept-restart", newest(v.offers), newest(v.held))
	}
	last := v.offers[len(v.offers)-1]
	switch {
	case slices.ContainsFunc(v.held, last.Same):
		return nil
	case m.arrivals.stalls(last.Version):
		return fmt.Errorf("%s, the newest version that the upstreams list, does not get on", last.Version)
	case m.board.Lists(last.Version):
		return nil
	}
	// It may have been published since.
	if held, err := m.dir.holds(last); err != nil || held {
		return err
	}
	return fmt.Errorf("%s, the newest version that the upstreams list, is not served here yet", last.Version)
}

// upstreams returns the upstreams as the status page shows them.
func (m *Middle) upstreams() []status.Upstream {
	standings := m.pool.Standings()
	all := make([]status.Upstream, 0, len(standings))
	for _, s := range standings {
		u := status.Upstream{
			Upstream: s.URL, State: s.State, Up: s.Up, Throughput: int64(s.Throughput),
			Error: status.Text(s.Err), ErrorTime: s.At.UTC(), Release: s.Release, Distrust: status.Text(s.Distrust),
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
