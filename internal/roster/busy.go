package roster

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/signal"
	"github.com/shardcast/shardcast/internal/wire"
)

// member is one server of a roster: how busy it is, and how its last request went.
type member struct {
	as     string // the name that its certificate has to have, or empty
	server *remote.Server
	index  int // in the ranking
	number int // of the configured upstream that it belongs to
	freed  *signal.Signal

	mu        sync.Mutex // guards what follows
	gone      bool       // a name had it, and has it no more
	err       error      // of its last request; nil when it has answered since
	failure   error      // the same, also when it has answered since
	failedAt  time.Time  // when that was
	transfers int        // requests under way
	sending   int        // those of them for shards that it answers
	later     time.Time  // when it may be asked for more than most things at once
	most      int
}

func (m *member) isGone() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gone
}

// setGone notes whether the server is there, and reports whether that is new.
func (m *member) setGone(gone bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.gone
	m.gone = gone
	return was != gone
}

// answered notes that the server has answered a request, or failed with err.
func (m *member) answered(err error) {
	m.mu.Lock()
	m.err = err
	m.mu.Unlock()
	if err != nil {
		m.failed(err)
	}
}

// failed notes a failure that stays to be read.
func (m *member) failed(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failure, m.failedAt = err, time.Now()
}

// lastFailure returns when the server has failed last, and with what.
func (m *member) lastFailure() (at time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failedAt, m.failure
}

// state returns how the server is, how many requests to it are under way, and why it is
// busy or failing.
func (m *member) state() (state string, transfers int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.transfers > 0:
		return Sending, m.transfers, nil
	case m.err != nil && time.Now().Before(m.later):
		return Busy, 0, m.err
	case m.err != nil:
		return Failing, 0, m.err
	}
	return Idle, 0, nil
}

// wait returns how long the server is busy, or 0 if it may be asked now, whether a request
// to it is under way, and what it said when it was asked last.
func (m *member) wait() (wait time.Duration, isAsked bool, said error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !isBusy(m.later, m.transfers, m.most) {
		return 0, m.transfers > 0, nil
	}
	return max(time.Until(m.later), time.Millisecond), m.transfers > 0, cmp.Or(m.err, errBusy)
}

// isBusy reports whether a server with so many transfers, of most, is not to be asked
// before later.
func isBusy(later time.Time, transfers, most int) bool {
	return transfers >= most && time.Now().Before(later)
}

// probeEvery is the wait between two tries to get more from a server that was busy.
const probeEvery = 2 * time.Second

// claim notes that a request to the server begins, unless it is busy, and returns how many
// shards it is sending. The caller calls release when the request has ended.
func (m *member) claim() (sending int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if isBusy(m.later, m.transfers, m.most) {
		return 0, false
	}
	if m.transfers++; m.transfers > m.most && !m.later.IsZero() {
		// This request tries whether there is room for one more; the next does later.
		m.most = m.transfers
		m.later = time.Now().Add(probeEvery)
	}
	return m.sending, true
}

// release ends what claim has begun, and how that went.
func (m *member) release(err error) {
	defer m.freed.Raise()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.transfers--
	if err == nil {
		m.err = nil
	}
}

// putOff has the server not asked again before the time that it has said, and returns the
// wait. It was sending had shards when it was asked.
func (m *member) putOff(b *remote.Busy, had int) time.Duration {
	wait := Spread(max(b.Wait, wire.MinRetry))
	m.answered(b)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.later = time.Now().Add(wait)
	m.most = max(m.sending, had)
	return wait
}

// Spread returns a wait that a server has asked for, made up to a half longer, so that
// nodes that were sent away together do not come back together.
func Spread(wait time.Duration) time.Duration {
	return time.Duration(float64(wait) * (1 + rand.Float64()/2))
}

// sends counts the shards that the server is sending.
func (m *member) sends(more int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sending += more
	if time.Now().Before(m.later) {
		m.most = max(m.most, m.sending) // the request was older than the refusal
	}
}

// errBusy is for a server that is at the bound of what it can bear.
var errBusy = errors.New("it is busy")

// Flow is when something of a shard came last, from any server. Its methods may be called
// from any goroutine.
type Flow struct {
	last atomic.Int64 // in nanoseconds since 1970
}

// Came notes that something of a shard has come.
func (f *Flow) Came() { f.last.Store(time.Now().UnixNano()) }

// Last returns when something of a shard came last, or start if that is later.
func (f *Flow) Last(start time.Time) time.Time {
	if last := time.Unix(0, f.last.Load()); last.After(start) {
		return last
	}
	return start
}

// busyPatience is how long servers can have a job wait that are busy, or are yet to get what
// they list, while nothing at all comes from any server.
const busyPatience = wire.MaxRetryAfter

// IsAlive reports whether busy servers are still waited for, in a fetch that began at
// start.
func (f *Flow) IsAlive(start time.Time) bool { return time.Since(f.Last(start)) < busyPatience }
