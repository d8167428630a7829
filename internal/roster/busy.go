package roster

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/wire"
)

// putOff has s not asked again before the time that it has said, and returns the wait. It
// is made up to a half longer, so that nodes that were sent away together do not come back
// together.
func (r *Roster) putOff(s *remote.Server, b *remote.Busy, had int) time.Duration {
	wait := Spread(max(b.Wait, wire.MinRetry))
	r.with(s, func(m *member) {
		m.note(b)
		m.later = time.Now().Add(wait)
		m.most = max(m.sending, had)
	})
	return wait
}

// Spread returns a wait that a server has asked for, made up to a half longer.
func Spread(wait time.Duration) time.Duration {
	return time.Duration(float64(wait) * (1 + rand.Float64()/2))
}

// Free reports whether s may be asked now, by what it has said.
func (r *Roster) Free(s *remote.Server) (free bool) {
	r.with(s, func(m *member) { free = m.free() })
	return free
}

func (m *member) free() bool {
	return m.later.IsZero() || m.transfers < m.most || !time.Now().Before(m.later)
}

// claim notes that a request to s begins, unless it is busy, and returns how many shards s
// is sending. The caller calls release when the request has ended.
func (r *Roster) claim(s *remote.Server) (sending int, ok bool) {
	r.with(s, func(m *member) {
		if ok = m.free(); !ok {
			return
		}
		sending = m.sending
		if m.transfers++; m.transfers > m.most && !m.later.IsZero() {
			// This request tries whether there is room for one more; the next does later.
			m.most = m.transfers
			m.later = time.Now().Add(probeEvery)
		}
	})
	return sending, ok
}

// probeEvery is the wait between two tries to get more from a server that was busy.
const probeEvery = 2 * time.Second

// release ends what claim has begun, and how that went.
func (r *Roster) release(s *remote.Server, err error) {
	r.with(s, func(m *member) {
		m.transfers--
		if err == nil {
			m.err = nil
		}
	})
	r.freed.Raise()
}

// Sends notes that s answers one more request for a shard, until the caller calls ended.
func (r *Roster) Sends(s *remote.Server) (ended func()) {
	count := func(more int) {
		r.with(s, func(m *member) {
			m.sending += more
			if time.Now().Before(m.later) {
				m.most = max(m.most, m.sending) // the request was older than the refusal
			}
		})
	}
	count(1)
	return func() { count(-1) }
}

// Wait returns how long the servers of j that are busy are so at least, or 0 if none is,
// and what is closed when one may be free.
func (r *Roster) Wait(j Job) (wait time.Duration, freed <-chan struct{}) {
	freed = r.freed.Wait()
	for _, s := range r.Ever() {
		if !j.May(s) {
			continue
		}
		r.with(s, func(m *member) {
			if m.free() {
				return
			}
			left := max(time.Until(m.later), time.Millisecond)
			if wait == 0 || left < wait {
				wait = left
			}
		})
	}
	return wait, freed
}

// errBusy is for a server that is at the bound of what it can bear.
var errBusy = errors.New("it is busy")

// Refusals returns what the servers of j that are busy have said.
func (r *Roster) Refusals(j Job) (said []error) {
	for _, s := range r.Ever() {
		if !j.May(s) {
			continue
		}
		r.with(s, func(m *member) {
			if !m.free() {
				said = append(said, cmp.Or(m.err, errBusy))
			}
		})
	}
	return said
}
