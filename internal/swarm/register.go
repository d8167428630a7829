package swarm

import (
	"container/list"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// maxMembers bounds the members in all, and maxPerHost those of one host: members at the
	// host, and members elsewhere that requests from the host claim.
	maxMembers = 4096
	maxPerHost = 64

	// probeAgain is the time after which an unreachable member is probed again.
	probeAgain = 30 * time.Second
)

// A register is the list of members, and the order in which they are probed. It is a value
// for one goroutine at a time, which knows no clock.
type register struct {
	members map[netip.AddrPort]*list.Element
	order   *list.List // of *member, in the order in which they expire
	listed  int        // members
	lists   []*host    // with listed members, in any order
	hosts   map[netip.Prefix]*host
	queue   *list.List // of *host, with members to probe
}

// member is a node in the register.
type member struct {
	at       netip.AddrPort
	key      Key
	hosts    []*host // one or two: its own, then the one that claimed another's address
	standing Standing
	until    time.Time // when it expires
	probed   time.Time
	waits    bool // for the end of a probe
	place    int  // in the listed ones of its host
	gone     bool
}

// host is one host with members, or that claims members elsewhere.
type host struct {
	prefix  netip.Prefix
	members int
	listed  []*member     // in any order
	place   int           // in the lists of the register
	waiting []*member     // for a probe
	probing bool          // one of them is being probed
	turn    *list.Element // in the queue, or nil
}

func newRegister() *register {
	return &register{
		members: make(map[netip.AddrPort]*list.Element), order: list.New(),
		hosts: make(map[netip.Prefix]*host), queue: list.New(),
	}
}

// join makes a peer a member, by a request from remote, or renews its membership. It returns
// nil if there is no room, and whether the whole register is full; and for another key at the
// address of a member, unless the request comes from there.
func (r *register) join(p Peer, remote netip.Addr, now time.Time) (m *member, full bool) {
	r.expire(now)
	e, ok := r.members[p.At]
	if !ok {
		if len(r.members) >= maxMembers {
			return nil, true
		}
		if e = r.add(p, remote); e == nil {
			return nil, false
		}
	}
	m = memberOf(e)
	if m.key != p.Key {
		if p.At.Addr() != remote {
			return nil, false
		}
		r.rekey(m, p.Key)
	}
	m.until = now.Add(wire.MemberFor)
	r.order.MoveToBack(e) // all stay for the same time, so the order is that of expiry
	if m.standing == Unreachable && now.Sub(m.probed) >= probeAgain {
		r.enqueue(m)
	}
	return m, false
}

// rekey gives a member another key, as a process that has begun anew has, and has it probed.
func (r *register) rekey(m *member, key Key) {
	m.key = key
	if m.standing == Listed {
		r.unlist(m)
	}
	m.standing = Pending
	r.enqueue(m)
}

// add adds a member, by a request from remote, or returns nil if one of the two hosts has too
// many.
func (r *register) add(p Peer, remote netip.Addr) *list.Element {
	prefixes := []netip.Prefix{wire.HostOf(p.At.Addr())}
	if by := wire.HostOf(remote); by != prefixes[0] {
		prefixes = append(prefixes, by)
	}
	for _, prefix := range prefixes {
		if h := r.hosts[prefix]; h != nil && h.members >= maxPerHost {
			return nil
		}
	}
	m := &member{at: p.At, key: p.Key, standing: Pending}
	for _, prefix := range prefixes {
		h, ok := r.hosts[prefix]
		if !ok {
			h = &host{prefix: prefix}
			r.hosts[prefix] = h
		}
		h.members++
		m.hosts = append(m.hosts, h)
	}
	e := r.order.PushBack(m)
	r.members[p.At] = e
	r.enqueue(m)
	return e
}

func memberOf(e *list.Element) *member {
	m, _ := e.Value.(*member)
	return m
}

// expire removes members whose time is over.
func (r *register) expire(now time.Time) {
	for e := r.order.Front(); e != nil; e = r.order.Front() {
		m := memberOf(e)
		if now.Before(m.until) {
			return
		}
		r.order.Remove(e)
		delete(r.members, m.at)
		m.gone = true
		if m.standing == Listed {
			r.unlist(m)
		}
		h := m.hosts[0]
		if i := slices.Index(h.waiting, m); i >= 0 {
			h.waiting = slices.Delete(h.waiting, i, i+1)
		}
		for _, h := range m.hosts {
			h.members--
			r.settle(h)
		}
	}
}

// list lists m to others.
func (r *register) list(m *member) {
	h := m.hosts[0]
	if len(h.listed) == 0 {
		h.place = len(r.lists)
		r.lists = append(r.lists, h)
	}
	m.place = len(h.listed)
	h.listed = append(h.listed, m)
	r.listed++
}

// unlist ends that.
func (r *register) unlist(m *member) {
	h := m.hosts[0]
	h.swap(m.place, len(h.listed)-1)
	h.listed = h.listed[:len(h.listed)-1]
	r.listed--
	if len(h.listed) == 0 {
		r.swap(h.place, len(r.lists)-1)
		r.lists = r.lists[:len(r.lists)-1]
	}
}

// swap exchanges two hosts with listed members.
func (r *register) swap(i, j int) {
	r.lists[i], r.lists[j] = r.lists[j], r.lists[i]
	r.lists[i].place, r.lists[j].place = i, j
}

// swap exchanges two listed members.
func (h *host) swap(i, j int) {
	h.listed[i], h.listed[j] = h.listed[j], h.listed[i]
	h.listed[i].place, h.listed[j].place = i, j
}

// enqueue has m probed when its host's turn comes. Hosts take turns, so a host with slow
// members does not hold up others.
func (r *register) enqueue(m *member) {
	if m.waits {
		return
	}
	m.waits = true
	h := m.hosts[0]
	h.waiting = append(h.waiting, m)
	r.settle(h)
}

// settle puts h into the queue if it has members to probe, and takes it out otherwise. It
// forgets a host without members.
func (r *register) settle(h *host) {
	waits := len(h.waiting) > 0 && !h.probing
	if waits && h.turn == nil {
		h.turn = r.queue.PushBack(h)
	} else if !waits && h.turn != nil {
		r.queue.Remove(h.turn)
		h.turn = nil
	}
	if h.members == 0 && !h.probing {
		delete(r.hosts, h.prefix)
	}
}

// next returns the member to probe next, or nil. Its host has no other turn until
// [register.note].
func (r *register) next(now time.Time) *member {
	r.expire(now)
	e := r.queue.Front()
	if e == nil {
		return nil
	}
	h, _ := e.Value.(*host)
	m := h.waiting[0]
	h.waiting = h.waiting[1:]
	h.probing = true
	r.settle(h)
	return m
}

// note notes the result of a probe of m, by a key.
func (r *register) note(m *member, key Key, reached bool, now time.Time) {
	h := m.hosts[0]
	h.probing = false
	r.settle(h)
	m.waits = false
	if m.gone {
		return
	}
	if m.key != key { // it has another one since
		r.enqueue(m)
		return
	}
	m.probed = now
	if !reached {
		m.standing = Unreachable
		return
	}
	m.standing = Listed
	r.list(m)
}

// draw returns up to n listed members in random order, without asker. It draws hosts first,
// and a second member of a host only when each has one: a host with many members, which may
// be none, displaces no other.
func (r *register) draw(n int, asker netip.AddrPort, now time.Time) (drawn []Peer) {
	r.expire(now)
	// The first steps of a shuffle (Knuth, TAOCP 2, algorithm 3.4.2P), of one host more, since
	// one may have no member but asker.
	hosts := min(len(r.lists), n+1)
	for i := range hosts {
		r.swap(i, i+rand.IntN(len(r.lists)-i))
	}
	for round, more := 0, true; more && len(drawn) < n; round++ {
		more = false
		for _, h := range r.lists[:hosts] {
			if round >= len(h.listed) || len(drawn) == n {
				continue
			}
			more = true
			h.swap(round, round+rand.IntN(len(h.listed)-round))
			if m := h.listed[round]; m.at != asker {
				drawn = append(drawn, Peer{m.at, m.key})
			}
		}
	}
	return drawn
}

// count returns the number of listed members.
func (r *register) count(now time.Time) int {
	r.expire(now)
	return r.listed
}
