// Package slots answers who may be sent a shard now, and how fast: it bounds shards by slots,
// and bytes by rates, and notes which shards were sent to nodes of a swarm. It refuses to know HTTP,
// and the bytes.
//
// A caller may lean on this: while slots do not suffice, one host keeps a quarter of them, and a
// reader that takes next to nothing loses its own; readers that share a rate get the same of it;
// and nothing is remembered of a reader for longer than its rate needs.
package slots

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/conns"
	"github.com/shardcast/shardcast/internal/trip"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// hostShare is the part of the slots that one host keeps while others wait: a quarter.
	hostShare = 4

	// whole is what a reader takes of a slot, and half what one over a long way does: a connection there is small at
	// first, and recovers slowly from a loss, so it takes twice as many of them to fill a link.
	whole = 2
	half  = 1

	// spareAfter is how long slots must have sufficed for all until one is spare.
	spareAfter = time.Second

	// reclaimAfter is the time over which the speed of readers is seen while slots do not
	// suffice, before one loses its slot. What was seen longer ago than forgotten says nothing.
	reclaimAfter = wire.SlotWait / 2
	forgotten    = 10 * reclaimAfter

	// A reader that takes less than slowFloor in bytes per second, and less than a slowPart of
	// the median of the others, loses its slot; so does one that takes less than standstill,
	// however slow all are.
	slowFloor  = 64 << 10
	slowPart   = 10
	standstill = 64

	// slowFor is how long the host of such a reader has one slot at most, and mostSlow bounds
	// the hosts that are remembered.
	slowFor  = 30 * time.Second
	mostSlow = 1024

	// mostTrips bounds the hosts whose round trips are remembered.
	mostTrips = 4096
)

// Slots bound the shards that are sent at the same time. A slot is a lease: while slots do
// not suffice, a reader that takes next to nothing loses its own, and a host with more than
// its part loses one to another host.
type Slots struct {
	most  int
	queue int // the requests that may wait of hosts that have their part

	mu     sync.Mutex // guards what follows
	leases map[*lease]struct{}
	taken  int                  // halves of slots, by leases
	hosts  map[netip.Prefix]int // of these
	slow   map[netip.Prefix]time.Time
	trips  map[netip.Prefix]time.Duration // the least that each host has shown
	waits  []*waiter
	full   time.Time // when slots did not suffice, the last time
	seen   map[*lease]conns.Taken
	seenAt time.Time
}

// lease is a slot that is taken.
type lease struct {
	host netip.Prefix
	conn net.Conn // or nil if it cannot be broken off
	size int      // half or whole
	lost bool
}

// waiter is a request that waits for a slot.
type waiter struct {
	lease *lease
	got   chan struct{} // closed when it has the slot
}

// New returns so many slots, for which requests may wait for 2 s: as many as queue of hosts that
// have their part, and of others that, or a part, whichever is more. Of readers over a long way there may be twice as
// many of each.
func New(most, queue int) *Slots {
	return &Slots{
		most: most, queue: queue, leases: make(map[*lease]struct{}), hosts: make(map[netip.Prefix]int),
		slow: make(map[netip.Prefix]time.Time), trips: make(map[netip.Prefix]time.Duration),
	}
}

// A Reader is the sender of a request for a shard.
type Reader struct {
	// Remote is its address with a port. Those that cannot be read are of one host.
	Remote string

	// Trip is the least round trip of its connection, or 0 if that is not known. A reader whose host has shown none
	// below [trip.Long] takes half a slot: a connection that begins behind a full queue alone is no long way.
	Trip time.Duration

	// Conn is its connection, which is broken off when it loses its slot. Nil never is.
	Conn net.Conn
}

// Enter takes a slot for a reader; leave gives it back. It reports false if there is none in
// time, or none to spare if that is what the reader asks for.
func (s *Slots) Enter(ctx context.Context, r Reader, spare bool) (leave func(), ok bool) {
	w := &waiter{lease: &lease{host: conns.HostOf(r.Remote), conn: r.Conn, size: whole}, got: make(chan struct{})}
	if !s.begin(w, r.Trip, spare) || !s.wait(ctx, w) {
		return nil, false
	}
	return func() { s.leave(w.lease) }, true
}

// begin gives w a slot or has it wait for one, and reports whether one of these.
func (s *Slots) begin(w *waiter, least time.Duration, spare bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	host := w.lease.host
	if s.isFar(host, least) {
		w.lease.size = half
	}
	if s.isSlow(host) && s.hosts[host] > 0 {
		return false
	}
	if spare && (len(s.waits) > 0 || time.Since(s.full) < spareAfter) {
		return false
	}
	if len(s.waits) == 0 && s.hasRoom(w) {
		s.give(w)
		return true
	}
	if spare {
		return false
	}
	s.full = time.Now()
	s.reclaim(host)
	if !s.mayWait(host) {
		return false
	}
	s.waits = append(s.waits, w)
	return true
}

// wait waits for a slot, and reports whether w has one.
func (s *Slots) wait(ctx context.Context, w *waiter) bool {
	select {
	case <-w.got:
		return true
	default:
	}
	again := time.NewTimer(reclaimAfter)
	defer again.Stop()
	late := time.NewTimer(wire.SlotWait)
	defer late.Stop()
	for {
		select {
		case <-w.got:
			return true
		case <-again.C:
			s.mu.Lock()
			s.reclaim(w.lease.host)
			s.mu.Unlock()
			continue
		case <-late.C:
		case <-ctx.Done():
		}
		return s.giveUp(w)
	}
}

// giveUp has w wait no more, and reports whether it has got a slot meanwhile.
func (s *Slots) giveUp(w *waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = time.Now()
	i := slices.Index(s.waits, w)
	if i < 0 {
		return true
	}
	s.waits = slices.Delete(s.waits, i, i+1)
	s.admit() // what it needed more of may do for the next one
	return false
}

// leave gives the slot back, to requests that wait.
func (s *Slots) leave(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leases, l)
	s.taken -= l.size
	if s.hosts[l.host] -= l.size; s.hosts[l.host] == 0 {
		delete(s.hosts, l.host)
	}
	s.admit()
}

// admit gives slots to requests that wait, as far as there is room: first to those of hosts without their part.
func (s *Slots) admit() {
	for len(s.waits) > 0 {
		s.full = time.Now()
		i := max(0, slices.IndexFunc(s.waits, func(w *waiter) bool { return !s.hasPart(w.lease.host) }))
		w := s.waits[i]
		if !s.hasRoom(w) {
			return
		}
		s.waits = slices.Delete(s.waits, i, i+1)
		s.give(w)
	}
}

// isFar reports whether a host has shown no round trip below [trip.Long], with that of one more connection, or 0.
func (s *Slots) isFar(host netip.Prefix, of time.Duration) bool {
	least, known := s.trips[host]
	if of > 0 && (!known || of < least) {
		if len(s.trips) >= mostTrips {
			clear(s.trips)
		}
		s.trips[host], least = of, of
	}
	return least >= trip.Long
}

// hasRoom reports whether enough of the slots is free for w.
func (s *Slots) hasRoom(w *waiter) bool { return s.taken+w.lease.size <= s.most*whole }

func (s *Slots) give(w *waiter) {
	s.leases[w.lease] = struct{}{}
	s.taken += w.lease.size
	s.hosts[w.lease.host] += w.lease.size
	close(w.got)
}

// part returns how many halves of slots one host keeps while others wait.
func (s *Slots) part() int { return max(1, s.most/hostShare) * whole }

func (s *Slots) hasPart(host netip.Prefix) bool { return s.hosts[host] >= s.part() }

// mayWait reports whether one more request of a host may wait. Those of hosts that have their
// part, and those of others, do not take one another's places.
func (s *Slots) mayWait(host netip.Prefix) bool {
	has, same, own := s.hasPart(host), 0, s.hosts[host]
	for _, w := range s.waits {
		if s.hasPart(w.lease.host) == has {
			same += w.lease.size
		}
		if w.lease.host == host {
			own += w.lease.size
		}
	}
	if has {
		return same < s.queue*whole
	}
	return same < max(s.queue*whole, s.part()) && own < s.part()
}

// isSlow reports whether a reader of a host has lost a slot of late since it took nothing.
func (s *Slots) isSlow(host netip.Prefix) bool { return time.Since(s.slow[host]) < slowFor }

// reclaim breaks off answers when a request of a host finds no slot, and when it has waited:
// those of slow readers, or one of a host with more than its part.
func (s *Slots) reclaim(host netip.Prefix) {
	now := time.Now()
	over := now.Sub(s.seenAt)
	if s.seen != nil && over < reclaimAfter {
		return
	}
	before := s.seen
	s.seen, s.seenAt = make(map[*lease]conns.Taken, len(s.leases)), now
	for l := range s.leases {
		if l.conn != nil && !l.lost {
			s.seen[l] = conns.TakenBy(l.conn)
		}
	}
	if over > forgotten {
		return
	}
	speeds := make(map[*lease]float64)
	for l, is := range s.seen {
		if was, ok := before[l]; ok {
			speeds[l] = float64(is.Bytes-was.Bytes) / over.Seconds()
		}
	}
	if s.cutSlow(before, speeds) || s.hasPart(host) {
		return
	}
	var slowest *lease
	for l, speed := range speeds {
		if s.hosts[l.host] > s.part() && l.host != host && (slowest == nil || speed < speeds[slowest]) {
			slowest = l
		}
	}
	if slowest != nil {
		s.cut(slowest)
	}
}

// cutSlow breaks off the answers to slow readers, and reports whether there were any.
func (s *Slots) cutSlow(before map[*lease]conns.Taken, speeds map[*lease]float64) (cut bool) {
	for l, speed := range speeds {
		if before[l].More && s.seen[l].More && isFarBelow(speed, othersOf(speeds, l)) {
			s.cut(l)
			s.mark(l.host, s.seenAt)
			cut = true
		}
	}
	return cut
}

// othersOf returns the speeds of all leases but one.
func othersOf(speeds map[*lease]float64, one *lease) []float64 {
	others := make([]float64, 0, len(speeds))
	for l, speed := range speeds {
		if l != one {
			others = append(others, speed)
		}
	}
	return others
}

// isFarBelow reports whether a speed is so low that the reader's slot is of more use to
// another one.
func isFarBelow(speed float64, others []float64) bool {
	if speed < standstill {
		return true
	}
	if speed >= slowFloor || len(others) == 0 {
		return false
	}
	slices.Sort(others)
	return speed < others[len(others)/2]/slowPart
}

// cut breaks off an answer, whose request leaves then.
func (s *Slots) cut(l *lease) {
	l.lost = true
	delete(s.seen, l)
	conns.BreakOff(l.conn)
}

// mark remembers the host of a slow reader.
func (s *Slots) mark(host netip.Prefix, now time.Time) {
	maps.DeleteFunc(s.slow, func(_ netip.Prefix, at time.Time) bool { return now.Sub(at) >= slowFor })
	if len(s.slow) < mostSlow {
		s.slow[host] = now
	}
}
