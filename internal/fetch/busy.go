package fetch

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"time"
)

// An upstream that says to come again later is not asked before. If it is sending
// us other things meanwhile, it is asked for no more than those at the same time,
// and after the wait for one more.

// putOff notes that u is not to be asked again before the time that it has said,
// made up to a half longer, for those who were sent away together not to come
// back together.
func (p *Pool) putOff(u *upstream, b busy) {
	wait := time.Duration(float64(max(b.wait, minBusy)) * (1 + rand.Float64()/2))
	p.opts.Logger.Debug("upstream is busy", "upstream", u.name, "wait", wait, "err", b)
	p.mu.Lock()
	defer p.mu.Unlock()
	u.fail(b)
	u.later = time.Now().Add(wait)
	u.most = max(u.sending, b.had)
}

// minBusy is the least wait, for a server that says 0 not to be hammered.
const minBusy = 100 * time.Millisecond

// free reports whether u may be asked now, by what it has said.
func (p *Pool) free(u *upstream) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return u.free()
}

// free is for holders of the pool's mu.
func (u *upstream) free() bool {
	return u.later.IsZero() || u.transfers < u.most || !time.Now().Before(u.later)
}

// claim notes that something is asked of u, unless it is busy. The caller calls
// release when that has ended.
func (p *Pool) claim(u *upstream) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !u.free() {
		return false
	}
	if u.transfers++; u.transfers > u.most && !u.later.IsZero() {
		// This one tries whether there is room for one more; the next does later.
		u.most = u.transfers
		u.later = time.Now().Add(probeEvery)
	}
	return true
}

// probeEvery is the wait between two tries to get more from an upstream that was
// busy.
const probeEvery = 2 * time.Second

// release ends what claim has begun, and how that went.
func (p *Pool) release(u *upstream, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u.transfers--
	if err == nil {
		u.err = nil
	}
	close(p.freed)
	p.freed = make(chan struct{})
}

// sends notes that u sends so many shards more, or less.
func (p *Pool) sends(u *upstream, more int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u.sending += more
	if time.Now().Before(u.later) {
		u.most = max(u.most, u.sending) // it was asked before that was said
	}
}

// sending returns how many shards u is sending.
func (p *Pool) sending(u *upstream) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return u.sending
}

// wait returns how long the upstreams of q that are busy are so at least, or 0 if
// none is, and what is closed when one may be free.
func (p *Pool) wait(q quest) (wait time.Duration, freed <-chan struct{}) {
	p.mu.Lock()
	freed = p.freed
	p.mu.Unlock()
	for _, u := range p.all() {
		if !p.mayAsk(q, u) || p.free(u) {
			continue
		}
		p.mu.Lock()
		left := max(time.Until(u.later), time.Millisecond)
		p.mu.Unlock()
		if wait == 0 || left < wait {
			wait = left
		}
	}
	return wait, freed
}

// busy returns what the upstreams of q that are busy have said.
func (p *Pool) busy(q quest) (said []error) {
	for _, u := range p.all() {
		if p.mayAsk(q, u) && !p.free(u) {
			p.mu.Lock()
			said = append(said, cmp.Or(u.err, errBusy))
			p.mu.Unlock()
		}
	}
	return said
}

// errBusy is for an upstream that is at the bound of what it can bear.
var errBusy = errors.New("it is busy")

// lastByte returns when something came from any upstream, or start if that is
// later.
func (p *Pool) lastByte(start time.Time) time.Time {
	if last := time.Unix(0, p.received.Load()); last.After(start) {
		return last
	}
	return start
}
