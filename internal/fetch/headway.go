package fetch

import (
	"sync"
	"time"
)

const (
	// leastHeadway in bytes per second is what it has to bring, or else all of its version in
	// longestFetch. A server that sends less than that is not worth the wait of another
	// version.
	leastHeadway = 16 << 10
	longestFetch = 24 * time.Hour
)

// A Headway says whether one fetch gets on, see [Task.Headway]. The zero value is ready. Its
// methods may be called from any goroutine.
type Headway struct {
	mu      sync.Mutex // guards what follows
	since   Progress   // when the look began that lasts now
	started bool
	stalled bool
	paused  bool
}

// Pause has the time until resume is called not count: work on this machine alone is no fault
// of a server. A nil Headway is allowed.
func (h *Headway) Pause() (resume func()) {
	pause := func(paused bool) {
		if h != nil {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.paused = paused
		}
	}
	pause(true)
	return func() { pause(false) }
}

// Stalled reports whether the fetch has brought next to nothing for [Options.Patience], so that
// other versions need not wait for it.
func (h *Headway) Stalled() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stalled
}

// note notes how far the fetch is, which has to get on over a time.
func (h *Headway) note(now Progress, over time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	// Verifying and syncing the end takes a while, and no server.
	if !h.started || h.paused || now.Size != h.since.Size || now.Done == now.Size {
		h.since, h.started, h.stalled = now, true, false
		return
	}
	dur := now.Elapsed - h.since.Elapsed
	if dur < over {
		return
	}
	least := max(leastHeadway, float64(now.Size)/longestFetch.Seconds()) * dur.Seconds()
	brought := max(now.Done-h.since.Done, now.Received-h.since.Received)
	h.stalled = float64(brought) < least
	h.since = now
}
