// Package roster says which server may be asked now, and tries servers until one
// succeeds. It refuses to know what is asked for: a [Job] does. Peers of a swarm are not
// in it.
//
// A caller may lean on this: servers are drawn in proportion to throughput × success, see
// package rank, first of those that are good and idle; a server that said to come again
// later is not asked before; and a server that failed is asked again, after the others.
//
// # Attempts
//
// When all servers have failed a job, that is one attempt. The next one is made after a
// wait: 2 s for the first ones, 15 s later, up to a quarter shorter or longer. A try that
// got somewhere before it failed is no attempt, see [Setback].
//
// # Busy servers
//
// A server that answers 503 or 429 with Retry-After (RFC 9110, section 10.2.3) is not
// asked before that time, up to 10 min, made up to a half longer. It may finish what it is
// sending meanwhile; with so many transfers it is asked on, and every 2 s for one more.
// Such waits are no attempts, unless nothing has come from any server for 10 min.
//
// # Servers that list what they do not have yet
//
// A plain server's 404 for a version that it still lists is a [Setback] Later: it is asked
// again after the usual waits, for as long as something comes from any server, and for 10
// min after that.
//
// # Names
//
// The addresses of a dns+http:// URL's host are servers of their own. They are looked up
// every 5 s while [Roster.Each] runs, and before a caller asks all servers. When a name
// has no address any more, the last ones stay: servers that are not ready are missing in
// the DNS before they are gone.
package roster

import (
	"context"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/rank"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/signal"
)

// Options configure a [Roster]. All but the functions and Metrics are required.
type Options struct {
	// Upstreams are the base URLs of the servers, in the order in which they are believed.
	Upstreams []*url.URL

	// Timeout bounds a look at the addresses of a name.
	Timeout time.Duration

	// Attempts is how many attempts a job has, and Waits are those after them.
	Attempts int
	Waits    Waits

	// Resolve finds the addresses of a host.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)

	// Draw returns numbers that are uniform in [0, 1).
	Draw func() float64

	// Changed is called, with no lock held, when a name has other addresses or none: with
	// the servers that have gone or come back.
	Changed func(others []*remote.Server)

	// Metrics count failures by server. Nil counts nothing.
	Metrics *metrics.Metrics

	Logger *slog.Logger
}

// Waits are the waits after attempts that have failed: FastWait after the first
// FastAttempts, and SlowWait after later ones.
type Waits struct {
	FastAttempts       int
	FastWait, SlowWait time.Duration
}

// After is the wait after an attempt, of which the first is 1.
func (w Waits) After(attempt int) time.Duration {
	if attempt <= w.FastAttempts {
		return w.FastWait
	}
	return w.SlowWait
}

// A Roster is a set of servers, and how each of them is. Its methods may be called from
// any goroutine.
type Roster struct {
	// Names are those of the servers that have one.
	Names *Names

	// Flow is what comes from all servers.
	Flow *Flow

	opts   Options
	rank   *rank.Ranking
	joined signal.Signal // names have other addresses
	freed  signal.Signal // a server may be asked for more

	mu      sync.Mutex // guards members
	members []*member  // in the order of the ranking; only grows
}

// New returns a Roster of the servers, of which repeated ones count once.
func New(opts Options) *Roster {
	r := &Roster{Flow: new(Flow), opts: opts, rank: rank.NewRanking(0, time.Now, opts.Draw)}
	r.Names = newNames(opts, r.join, r.rename)
	for i, u := range opts.Upstreams {
		if !IsByName(u) {
			r.join(u, "", i)
		}
	}
	return r
}

// Close ends what is under way on behalf of no caller.
func (r *Roster) Close() { r.Names.close() }

// join returns the server at u, which it adds if it is new. Name is that of which u is an
// address, or empty.
func (r *Roster) join(u *url.URL, name string, number int) *remote.Server {
	if u.Scheme != "https" {
		name = "" // which no certificate has to have
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		if m.server.Name == u.Redacted() && m.as == name {
			return m.server
		}
	}
	m := &member{server: remote.NewNamed(u, name), as: name, index: len(r.members), number: number, freed: &r.freed}
	r.rank.Grow(len(r.members) + 1)
	r.members = append(slices.Clip(r.members), m) // callers keep the old ones
	return m.server
}

// Servers returns the servers that are there, in order.
func (r *Roster) Servers() (present []*remote.Server) {
	for _, m := range r.all() {
		if !m.isGone() {
			present = append(present, m.server)
		}
	}
	return present
}

// Ever returns the servers that are there, and those that were, in order.
func (r *Roster) Ever() []*remote.Server {
	members := r.all()
	all := make([]*remote.Server, len(members))
	for i, m := range members {
		all[i] = m.server
	}
	return all
}

func (r *Roster) all() []*member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.members
}

// member returns the member that s is, or nil.
func (r *Roster) member(s *remote.Server) *member {
	for _, m := range r.all() {
		if m.server == s {
			return m
		}
	}
	return nil
}

// Has reports whether s is in r, and has not gone.
func (r *Roster) Has(s *remote.Server) bool {
	m := r.member(s)
	return m != nil && !m.isGone()
}

// Number returns which of the configured upstreams s belongs to, or -1 if none.
func (r *Roster) Number(s *remote.Server) int {
	if m := r.member(s); m != nil {
		return m.number
	}
	return -1
}

// Answered notes that s has answered a request, or failed with err.
func (r *Roster) Answered(s *remote.Server, err error) {
	if m := r.member(s); m != nil {
		m.answered(err)
	}
}

// Delivered notes that s sent bytes in dur.
func (r *Roster) Delivered(s *remote.Server, bytes int64, dur time.Duration) {
	if m := r.member(s); m != nil {
		r.rank.Delivered(m.index, bytes, dur)
	}
}

// Throughput returns the estimate for s in bytes per second, and 0 if there is none.
func (r *Roster) Throughput(s *remote.Server) float64 {
	if m := r.member(s); m != nil {
		return r.rank.Throughput(m.index)
	}
	return 0
}

// Blame notes that s sent wrong bytes, or does not have what it lists.
func (r *Roster) Blame(s *remote.Server, err error) {
	if m := r.member(s); m != nil {
		r.rank.Failed(m.index)
		m.failed(err)
	}
}

// State returns how s is, how many requests to it are under way, and why it is busy or
// failing.
func (r *Roster) State(s *remote.Server) (state string, transfers int, err error) {
	if m := r.member(s); m != nil {
		return m.state()
	}
	return Idle, 0, nil
}

// States of a server.
const (
	Idle    = "idle"
	Sending = "sending"
	Busy    = "busy"    // it has said to come again later
	Failing = "failing" // its last request failed
)

// A Standing is how a configured upstream is at one moment: of a name, how the best of its
// servers is.
type Standing struct {
	// URL is without a password.
	URL string

	// Servers are those of a name that are there, or the one.
	Servers []*remote.Server

	// State is the best state of any server.
	State string

	// Throughput is estimated, in bytes per second of one transfer, and 0 while nothing
	// is known.
	Throughput float64

	// Success is the estimated part of requests that succeed, from 0 to 1. Settled says
	// that any has succeeded or failed.
	Success float64
	Settled bool

	// Err is the last failure, also when a request has succeeded since, and At when that
	// was. Nil means never.
	Err error
	At  time.Time
}

// Standings returns how the upstreams are, in the order in which they were configured.
func (r *Roster) Standings() []Standing {
	all := make([]Standing, len(r.opts.Upstreams))
	for i, u := range r.opts.Upstreams {
		all[i] = Standing{URL: u.Redacted(), State: Failing} // as is a name without an address
		all[i].At, all[i].Err = r.Names.failure(i)
	}
	for _, m := range r.all() {
		if m.isGone() {
			continue
		}
		s := &all[m.number]
		s.Servers = append(s.Servers, m.server)
		s.Throughput, s.Success = max(s.Throughput, r.rank.Throughput(m.index)), max(s.Success, r.rank.Success(m.index))
		s.Settled = s.Settled || r.rank.Settled(m.index)
		state, _, _ := m.state()
		s.State = better(s.State, state)
		if at, err := m.lastFailure(); at.After(s.At) {
			s.Err, s.At = err, at
		}
	}
	return all
}

// better returns the state of two in which a server can send more.
func better(a, b string) string {
	for _, s := range []string{Sending, Idle, Busy} {
		if a == s || b == s {
			return s
		}
	}
	return Failing
}
