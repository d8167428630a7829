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
// # Names
//
// The addresses of a dns+http:// URL's host are servers of their own. They are looked up
// every 5 s while [Roster.Each] runs, and before a caller asks all servers. When a name
// has no address any more, the last ones stay: servers that are not ready are missing in
// the DNS before they are gone.
package roster

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

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

	// Attempts is how many attempts a job has. FastAttempts of them are followed by
	// FastWait, and later ones by SlowWait.
	Attempts, FastAttempts int
	FastWait, SlowWait     time.Duration

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

// A Roster is a set of servers, and how each of them is. Its methods may be called from
// any goroutine.
type Roster struct {
	opts   Options
	rank   *rank.Ranking
	life   context.Context //nolint:containedctx // a look at names is made for several callers, and outlives each of them
	end    context.CancelFunc
	flight singleflight.Group // looks at names
	joined signal.Signal      // names have other addresses
	freed  signal.Signal      // a server may be asked for more
	came   atomic.Int64       // when something of a shard came, in nanoseconds since 1970

	mu      sync.Mutex // guards what follows
	members []*member  // in the order of the ranking; only grows
	names   []*name
	looked  time.Time // when the names were looked up last
}

// member is one server of a roster. What follows number changes, under the roster's mu.
type member struct {
	server *remote.Server
	index  int // in the ranking
	number int // of the configured upstream that it belongs to

	gone      bool      // a name had it, and has it no more
	err       error     // of its last request; nil when it has answered since
	failure   error     // the same, also when it has answered since
	failedAt  time.Time // when that was
	transfers int       // requests under way
	sending   int       // those of them for shards that it answers
	later     time.Time // when it may be asked for more than most things at once
	most      int
}

// New returns a Roster of the servers, of which repeated ones count once.
func New(opts Options) *Roster {
	r := &Roster{opts: opts, rank: rank.NewRanking(0, time.Now, opts.Draw)}
	r.life, r.end = context.WithCancel(context.Background())
	for i, u := range opts.Upstreams {
		if u.Scheme == ByName {
			r.names = append(r.names, &name{url: u, number: i})
		} else {
			r.join(u, i)
		}
	}
	return r
}

// Close ends what is under way on behalf of no caller.
func (r *Roster) Close() {
	r.end()
	_, _, _ = r.flight.Do(theNames, func() (any, error) { return nil, nil }) //nolint:nilnil // only to wait
}

// join returns the server at u, which it adds if it is new.
func (r *Roster) join(u *url.URL, number int) *remote.Server {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		if m.server.Name == u.Redacted() {
			return m.server
		}
	}
	m := &member{server: remote.NewServer(u), index: len(r.members), number: number}
	r.rank.Grow(len(r.members) + 1)
	r.members = append(r.members, m)
	return m.server
}

// Servers returns the servers that are there, in order.
func (r *Roster) Servers() (present []*remote.Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		if !m.gone {
			present = append(present, m.server)
		}
	}
	return present
}

// Ever returns the servers that are there, and those that were, in order.
func (r *Roster) Ever() []*remote.Server {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*remote.Server, len(r.members))
	for i, m := range r.members {
		all[i] = m.server
	}
	return all
}

// Has reports whether s is in r, and has not gone.
func (r *Roster) Has(s *remote.Server) (has bool) {
	r.with(s, func(m *member) { has = !m.gone })
	return has
}

// Number returns which of the configured upstreams s belongs to, or -1 if none.
func (r *Roster) Number(s *remote.Server) int {
	number := -1
	r.with(s, func(m *member) { number = m.number })
	return number
}

// with calls do with the member that s is, with mu held, if s is one.
func (r *Roster) with(s *remote.Server, do func(*member)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.members, func(m *member) bool { return m.server == s }); i >= 0 {
		do(r.members[i])
	}
}

// Answered notes that s has answered a request, or failed with err.
func (r *Roster) Answered(s *remote.Server, err error) {
	r.with(s, func(m *member) { m.note(err) })
}

func (m *member) note(err error) {
	m.err = err
	if err != nil {
		m.failure, m.failedAt = err, time.Now()
	}
}

// Delivered notes that s sent bytes in dur.
func (r *Roster) Delivered(s *remote.Server, bytes int64, dur time.Duration) {
	r.with(s, func(m *member) { r.rank.Delivered(m.index, bytes, dur) })
}

// Throughput returns the estimate for s in bytes per second, and 0 if there is none.
func (r *Roster) Throughput(s *remote.Server) (throughput float64) {
	r.with(s, func(m *member) { throughput = r.rank.Throughput(m.index) })
	return throughput
}

// Blame notes that s sent wrong bytes, or does not have what it lists.
func (r *Roster) Blame(s *remote.Server, err error) {
	r.with(s, func(m *member) {
		r.rank.Failed(m.index)
		m.failure, m.failedAt = err, time.Now()
	})
}

// Came notes that something of a shard has come, from any server.
func (r *Roster) Came() { r.came.Store(time.Now().UnixNano()) }

// Received returns when something of a shard came last, or start if that is later.
func (r *Roster) Received(start time.Time) time.Time {
	if last := time.Unix(0, r.came.Load()); last.After(start) {
		return last
	}
	return start
}

// States of a server.
const (
	Idle    = "idle"
	Sending = "sending"
	Busy    = "busy"    // it has said to come again later
	Failing = "failing" // its last request failed
)

// State returns how s is, how many requests to it are under way, and why it is busy or
// failing.
func (r *Roster) State(s *remote.Server) (state string, transfers int, err error) {
	r.with(s, func(m *member) {
		if state, transfers = m.state(), m.transfers; state == Busy || state == Failing {
			err = m.err
		}
	})
	return cmp.Or(state, Idle), transfers, err
}

func (m *member) state() string {
	switch {
	case m.transfers > 0:
		return Sending
	case m.err != nil && time.Now().Before(m.later):
		return Busy
	case m.err != nil:
		return Failing
	}
	return Idle
}

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
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.names {
		if n.err != nil {
			all[n.number].Err, all[n.number].At = n.err, r.looked
		}
	}
	for _, m := range r.members {
		if m.gone {
			continue
		}
		s := &all[m.number]
		s.Servers = append(s.Servers, m.server)
		s.Throughput, s.Success = max(s.Throughput, r.rank.Throughput(m.index)), max(s.Success, r.rank.Success(m.index))
		s.Settled = s.Settled || r.rank.Settled(m.index)
		s.State = better(s.State, m.state())
		if m.failedAt.After(s.At) {
			s.Err, s.At = m.failure, m.failedAt
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
