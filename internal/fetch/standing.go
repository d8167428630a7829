package fetch

import (
	"time"

	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/shard"
)

// Standing is how an upstream is at one moment, for all fetches together.
type Standing struct {
	// URL is without a password.
	URL string

	// State is one of [Sending], [Idle], [Busy] and [Failing].
	State string

	// Up says that it has told what it offers when it was last asked.
	Up bool

	// Throughput is estimated, in bytes per second of one transfer, and 0 while nothing
	// is known.
	Throughput float64

	// Success is the estimated part of requests that succeed, from 0 to 1. Settled says that
	// it has succeeded or failed at any.
	Success float64
	Settled bool

	// Newest is the newest version that it lists, or 0.
	Newest shard.Version

	// Err is what it has failed with last, also when it has answered since, and At when
	// that was. Nil is for never.
	Err error
	At  time.Time
}

// failure is what an upstream has failed with, and when.
type failure struct {
	err error
	at  time.Time
}

// fail notes that u has failed with err, for holders of the pool's mu.
func (u *upstream) fail(err error) {
	u.err = err
	u.last = failure{err, time.Now()}
}

// Standings returns how the upstreams are, in the order in which they were configured. Of
// a name it is how the best of its addresses is, and what any of them has failed with.
func (p *Pool) Standings() []Standing {
	all := make([]Standing, len(p.opts.Upstreams))
	for i, u := range p.opts.Upstreams {
		all[i] = Standing{URL: u.Redacted(), State: Failing} // as is a name without an address
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.names {
		if n.err != nil {
			all[n.number].Err, all[n.number].At = n.err, p.resolved
		}
	}
	for _, u := range p.all() {
		if u.gone {
			continue
		}
		s := &all[u.number]
		s.Throughput, s.Success = max(s.Throughput, p.rank.Throughput(u.index)), max(s.Success, p.rank.Success(u.index))
		s.Settled = s.Settled || p.rank.Settled(u.index)
		s.Up = s.Up || u.heard && !u.failing
		s.State = better(s.State, u.state())
		for _, e := range u.offered {
			s.Newest = max(s.Newest, e.Version)
		}
		if u.last.at.After(s.At) {
			s.Err, s.At = u.last.err, u.last.at
		}
	}
	return all
}

// better returns that of two states in which more can be had.
func better(a, b string) string {
	for _, s := range []string{Sending, Idle, Busy} {
		if a == s || b == s {
			return s
		}
	}
	return Failing
}

// state returns how u is, for holders of the pool's mu.
func (u *upstream) state() string {
	switch {
	case u.transfers > 0:
		return Sending
	case u.err != nil && time.Now().Before(u.later):
		return Busy
	case u.err != nil:
		return Failing
	}
	return Idle
}

// measure returns the same for the metrics.
func (p *Pool) measure() []metrics.Upstream {
	all := make([]metrics.Upstream, 0, len(p.opts.Upstreams))
	for _, s := range p.Standings() {
		all = append(all, metrics.Upstream{Throughput: s.Throughput, Success: s.Success, Up: s.Up, Newest: int64(s.Newest)})
	}
	return all
}
