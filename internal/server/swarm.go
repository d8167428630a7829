package server

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// swarmSlots is how many shards are sent to nodes of swarms at the same time, and
	// swarmQueue how many more may wait for that.
	swarmSlots = 8
	swarmQueue = 2

	// spareAfter is how long nobody must have found all slots taken, until one is given to
	// who asks for what there is to spare.
	spareAfter = time.Second

	// mostFollowers is how many may follow what is here at the same time.
	mostFollowers = 256
)

var (
	// errNoSlot means that as many shards are being sent to nodes of swarms as may be.
	errNoSlot = errors.New("all slots for nodes of a swarm are taken")

	// errSent means that a shard is not fresh.
	errSent = errors.New("the shard has been sent to another node")
)

// swarming is what a server knows of the swarm that it is in, or above. That of who is in
// none is nil.
type swarming struct {
	slots chan struct{} // holds one for each that is taken

	mu        sync.Mutex // guards what follows
	waiting   int        // for a slot
	full      time.Time  // when slots did not suffice for those who wait, the last time
	followers int        // of what is here
	sent      map[shard.Version]*sent
}

// sent is which shards of a version have been sent to nodes.
type sent struct {
	digest shard.Digest // of the file
	shards []bool
}

func newSwarming() *swarming {
	return &swarming{slots: make(chan struct{}, swarmSlots), sent: make(map[shard.Version]*sent)}
}

// enter takes a slot, which leave gives back. The error matches errNoSlot if there is none,
// or none to spare if that is what is asked for.
func (s *swarming) enter(ctx context.Context, spare bool) (leave func(), err error) {
	leave = func() { <-s.slots }
	if spare && !s.hasSpare() {
		return nil, errNoSlot
	}
	select {
	case s.slots <- struct{}{}:
		return leave, nil
	default:
	}
	if spare || !s.await() {
		return nil, errNoSlot
	}
	defer s.awaited()
	late := time.NewTimer(wire.SlotWait)
	defer late.Stop()
	select {
	case s.slots <- struct{}{}:
		return leave, nil
	case <-late.C:
	case <-ctx.Done():
	}
	return nil, errNoSlot
}

// hasSpare reports whether slots have sufficed for all others of late.
func (s *swarming) hasSpare() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting == 0 && time.Since(s.full) >= spareAfter
}

// await notes that there is no slot, and that somebody waits for one, or reports that
// there are too many who do.
func (s *swarming) await() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = time.Now()
	if s.waiting == swarmQueue {
		return false
	}
	s.waiting++
	return true
}

// awaited notes that who has waited does so no more.
func (s *swarming) awaited() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = time.Now()
	s.waiting--
}

// send notes that a shard of the version is being sent. It returns errSent if it is to be
// fresh and is not.
func (s *swarming) send(version shard.Version, m shard.Manifest, number int, fresh bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fresh && s.wasSent(version, m, number) {
		return errSent
	}
	v := s.sent[version]
	if v == nil || !v.isOf(m) {
		for other := range s.sent {
			if len(s.sent) < maxManifests {
				break
			}
			delete(s.sent, other) // at worst something is sent once more
		}
		v = &sent{m.Digest, make([]bool, len(m.Shards))}
		s.sent[version] = v
	}
	if number <= len(v.shards) {
		v.shards[number-1] = true
	}
	return nil
}

// isFresh reports whether a shard of the version has been sent to nobody.
func (s *swarming) isFresh(version shard.Version, m shard.Manifest, number int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.wasSent(version, m, number)
}

// wasSent is the opposite. The caller holds mu.
func (s *swarming) wasSent(version shard.Version, m shard.Manifest, number int) bool {
	v := s.sent[version]
	return v != nil && v.isOf(m) && number <= len(v.shards) && v.shards[number-1]
}

// isOf reports whether v is of the file and shards of m.
func (v *sent) isOf(m shard.Manifest) bool {
	return v.digest == m.Digest && len(v.shards) == len(m.Shards)
}

// mark turns those of states that are held and have been sent into that.
func (s *swarming) mark(version shard.Version, m shard.Manifest, states []swarm.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.sent[version]; v != nil && v.isOf(m) {
		for i, is := range v.shards {
			if is {
				states[i] = swarm.Sent
			}
		}
	}
}

// follow notes that there is one more who follows what is here, or reports that there are
// too many.
func (s *swarming) follow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.followers == mostFollowers {
		return false
	}
	s.followers++
	return true
}

func (s *swarming) unfollow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followers--
}

// asked is how nodes of swarms ask for shards.
var asked = []string{swarm.AsPeer, swarm.AsUpstream, swarm.AsFresh, swarm.AsSpare}

// enterSwarm lets a node of a swarm be sent a shard, and returns what must be called when
// that has ended. All others it lets through.
func (h *handler) enterSwarm(r *http.Request, version shard.Version, number int) (leave func(), err error) {
	as := r.Header.Get(wire.SwarmHeader)
	if h.swarm == nil || r.Method != http.MethodGet || !slices.Contains(asked, as) {
		return func() {}, nil
	}
	h.holdLittle(r) // a slot is taken until all is sent, and not until all is written
	if as == swarm.AsPeer {
		return h.swarm.enter(r.Context(), false)
	}
	m, err := h.anyManifest(version)
	known := err == nil
	fresh := as == swarm.AsFresh
	if known && fresh && !h.swarm.isFresh(version, m, number) {
		return nil, errSent // without having waited for a slot
	}
	if leave, err = h.swarm.enter(r.Context(), as == swarm.AsSpare); err != nil || !known {
		return leave, err
	}
	if err := h.swarm.send(version, m, number, fresh); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// anyManifest returns that of a version which is held, or on offer before it is.
func (h *handler) anyManifest(version shard.Version) (shard.Manifest, error) {
	if v, m, err := h.arrivingVersion(version); v != nil || err != nil {
		return m, err
	}
	if h.store == nil {
		return shard.Manifest{}, fs.ErrNotExist
	}
	f, err := h.store.Manifest(version)
	if err != nil {
		return shard.Manifest{}, err
	}
	defer f.Close()
	c, err := h.readManifest(version, f)
	return c.Manifest, err
}

// have answers with what there is of a version, a line at a time as that changes, see
// package swarm, until it is something else.
func (h *handler) have(w http.ResponseWriter, r *http.Request, version shard.Version) error {
	if h.swarm == nil {
		return fs.ErrNotExist
	}
	digest, err := shard.ParseDigest(r.URL.Query().Get(wire.DigestQuery))
	if err != nil {
		return fs.ErrNotExist
	}
	now, err := h.states(version, digest)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", plainText)
	w.Header().Set("X-Accel-Buffering", "no") // nginx would collect lines otherwise
	if r.Method == http.MethodHead {
		return nil
	}
	if !h.swarm.follow() {
		return errNoSlot
	}
	defer h.swarm.unfollow()
	out := http.NewResponseController(w)
	ticker := time.NewTicker(max(wire.HaveEvery, wire.HaveEveryShard*time.Duration(len(now))))
	defer ticker.Stop()
	var before []swarm.State
	var line []byte
	told := time.Now()
	for {
		if line = swarm.AppendLine(line[:0], before, now); len(line) > 1 || before == nil || time.Since(told) >= wire.HaveAlive {
			_, _ = w.Write(line) // who has gone is noticed by the context
			_ = out.Flush()
			told = time.Now()
		}
		before = now
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return nil
		case <-h.over:
			return nil
		}
		if now, err = h.states(version, digest); err != nil {
			return nil //nolint:nilerr // it is retired, or replaced
		}
	}
}

// states returns what there is of each shard of a version. The error matches
// [fs.ErrNotExist] if it is not here, or not of the file digest.
func (h *handler) states(version shard.Version, digest shard.Digest) ([]swarm.State, error) {
	m, err := h.anyManifest(version)
	if err != nil {
		return nil, err
	}
	if m.Digest != digest {
		return nil, fs.ErrNotExist
	}
	states := slices.Repeat([]swarm.State{swarm.Held}, len(m.Shards))
	if v := h.board.Version(version); v != nil {
		i := 0
		for e := range v.Extents() {
			switch {
			case e.Verified:
			case e.Direct:
				states[i] = swarm.Arriving
			default:
				states[i] = swarm.Missing
			}
			i++
		}
	}
	h.swarm.mark(version, m, states)
	return states, nil
}
