package server

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// swarmSlots is the number of shards that are sent to nodes of swarms at the same time,
	// and swarmQueue that of requests that may wait for a slot.
	swarmSlots = 8
	swarmQueue = 2

	// spareAfter is how long slots must have sufficed for all until one is spare.
	spareAfter = time.Second

	// mostFollowers bounds the nodes that follow the server's shards at the same time.
	mostFollowers = 256

	// maxSent bounds the versions of which sent shards are noted.
	maxSent = 16
)

var (
	// errNoSlot means that as many shards are being sent to nodes of swarms as may be.
	errNoSlot = errors.New("all slots for nodes of a swarm are taken")

	// errSent means that a shard is not fresh.
	errSent = errors.New("the shard has been sent to another node")
)

// swarming is the part of a server for nodes of the swarm that it is in, or above.
type swarming struct {
	catalog   *catalog.Catalog
	over      <-chan struct{} // closed when no request may be held any more
	slots     *slots
	sent      *ledger
	followers chan struct{} // holds a token for each request that follows the shards here
}

func newSwarming(c *catalog.Catalog, over <-chan struct{}) *swarming {
	return &swarming{
		catalog: c, over: over, slots: newSlots(),
		sent: &ledger{versions: make(map[shard.Version]*sent)}, followers: make(chan struct{}, mostFollowers),
	}
}

// asked are the ways in which nodes of swarms ask for shards.
var asked = []string{swarm.AsPeer, swarm.AsUpstream, swarm.AsFresh, swarm.AsSpare}

// admit has next answer nodes of swarms that have a slot, and all other clients. It returns
// errNoSlot without a slot, and errSent if a node asks for a fresh shard that was sent.
func (s *swarming) admit(next endpoint) endpoint {
	return func(w http.ResponseWriter, r *http.Request, t target) error {
		as := r.Header.Get(wire.SwarmHeader)
		if r.Method != http.MethodGet || !slices.Contains(asked, as) {
			return next(w, r, t)
		}
		holdLittleOf(r) // a slot is taken until all is sent, and not until all is written
		note := func() error { return nil }
		if as != swarm.AsPeer {
			if v, err := s.catalog.Find(t.version); err == nil {
				_ = v.Close() // its manifest stays
				if as == swarm.AsFresh && !s.sent.isFresh(t, v.Manifest) {
					return errSent // without having waited for a slot
				}
				note = func() error { return s.sent.note(t, v.Manifest, as == swarm.AsFresh) }
			}
		}
		if err := s.slots.enter(r.Context(), as == swarm.AsSpare); err != nil {
			return err
		}
		defer s.slots.leave()
		if err := note(); err != nil {
			return err
		}
		return next(w, r, t)
	}
}

// have answers with the states of a version's shards, a line at a time as they change, see
// package swarm, until the version is retired or replaced.
func (s *swarming) have(w http.ResponseWriter, r *http.Request, t target) error {
	digest, err := shard.ParseDigest(r.URL.Query().Get(wire.DigestQuery))
	if err != nil {
		return fs.ErrNotExist
	}
	now, err := s.states(t.version, digest)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", plainText)
	w.Header().Set("X-Accel-Buffering", "no") // nginx would collect lines otherwise
	if r.Method == http.MethodHead {
		return nil
	}
	select {
	case s.followers <- struct{}{}:
		defer func() { <-s.followers }()
	default:
		return errNoSlot
	}
	out := http.NewResponseController(w)
	ticker := time.NewTicker(max(wire.HaveEvery, wire.HaveEveryShard*time.Duration(len(now))))
	defer ticker.Stop()
	var before []swarm.State
	var line []byte
	last := time.Now()
	for {
		line = swarm.AppendLine(line[:0], before, now)
		if len(line) > 1 || before == nil || time.Since(last) >= wire.HaveAlive {
			_, _ = w.Write(line) // the context ends with the connection
			_ = out.Flush()
			last = time.Now()
		}
		before = now
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return nil
		case <-s.over:
			return nil
		}
		if now, err = s.states(t.version, digest); err != nil {
			return nil //nolint:nilerr // the version is retired, or replaced
		}
	}
}

// states returns the state of each shard of a version. The error matches [fs.ErrNotExist]
// if the version is not here, or not of the file digest.
func (s *swarming) states(version shard.Version, digest shard.Digest) ([]swarm.State, error) {
	v, err := s.catalog.Find(version)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	if v.Manifest.Digest != digest {
		return nil, fs.ErrNotExist
	}
	states := make([]swarm.State, 0, len(v.Manifest.Shards))
	for e := range v.Extents() {
		switch {
		case e.Verified:
			states = append(states, swarm.Held)
		case e.Direct:
			states = append(states, swarm.Arriving)
		default:
			states = append(states, swarm.Missing)
		}
	}
	s.sent.mark(version, v.Manifest, states)
	return states, nil
}

// slots bound the shards that are sent to nodes of swarms at the same time.
type slots struct {
	taken chan struct{} // holds a token for each

	mu      sync.Mutex // guards what follows
	waiting int        // requests, for a slot
	full    time.Time  // when slots did not suffice, the last time
}

func newSlots() *slots { return &slots{taken: make(chan struct{}, swarmSlots)} }

// enter takes a slot, which leave gives back. It returns errNoSlot if there is none in time,
// or none to spare if that is what the node asks for.
func (s *slots) enter(ctx context.Context, spare bool) error {
	if spare && !s.hasSpare() {
		return errNoSlot
	}
	select {
	case s.taken <- struct{}{}:
		return nil
	default:
	}
	if spare || !s.queue() {
		return errNoSlot
	}
	defer s.unqueue()
	late := time.NewTimer(wire.SlotWait)
	defer late.Stop()
	select {
	case s.taken <- struct{}{}:
		return nil
	case <-late.C:
	case <-ctx.Done():
	}
	return errNoSlot
}

func (s *slots) leave() { <-s.taken }

// hasSpare reports whether slots have sufficed for all other requests of late.
func (s *slots) hasSpare() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting == 0 && time.Since(s.full) >= spareAfter
}

// queue notes that slots do not suffice, and reports whether one more request may wait.
func (s *slots) queue() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = time.Now()
	if s.waiting == swarmQueue {
		return false
	}
	s.waiting++
	return true
}

// unqueue notes that a request waits no more.
func (s *slots) unqueue() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = time.Now()
	s.waiting--
}

// ledger notes which shards were sent to nodes.
type ledger struct {
	mu       sync.Mutex // guards what follows
	versions map[shard.Version]*sent
}

// sent are the shards of one version that were sent.
type sent struct {
	digest shard.Digest // of the file
	shards []bool
}

// isOf reports whether v, which may be nil, is of the file and shards of m.
func (v *sent) isOf(m shard.Manifest) bool {
	return v != nil && v.digest == m.Digest && len(v.shards) == len(m.Shards)
}

// isFresh reports whether the shard of t, of a version with the manifest m, was sent to no
// node.
func (l *ledger) isFresh(t target, m shard.Manifest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.versions[t.version]
	return !v.isOf(m) || t.number > len(v.shards) || !v.shards[t.number-1]
}

// note notes that the shard of t, of a version with the manifest m, is being sent. It returns
// errSent if the shard is to be fresh and is not.
func (l *ledger) note(t target, m shard.Manifest, fresh bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.versions[t.version]
	if !v.isOf(m) {
		for other := range l.versions {
			if len(l.versions) < maxSent {
				break
			}
			delete(l.versions, other) // at worst a shard is sent once more
		}
		v = &sent{m.Digest, make([]bool, len(m.Shards))}
		l.versions[t.version] = v
	}
	if t.number > len(v.shards) {
		return nil
	}
	if fresh && v.shards[t.number-1] {
		return errSent
	}
	v.shards[t.number-1] = true
	return nil
}

// mark turns the states of shards that were sent into that.
func (l *ledger) mark(version shard.Version, m shard.Manifest, states []swarm.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v := l.versions[version]; v.isOf(m) {
		for i, is := range v.shards {
			if is {
				states[i] = swarm.Sent
			}
		}
	}
}
