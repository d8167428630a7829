package swarm

import (
	"container/list"
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/wire"
)

// MaxPeers is the number of peers that an upstream lists to a node at a time.
const MaxPeers = 16

// peersStay is how many neighbours stay when there may be others.
const peersStay = MaxPeers * 3 / 4

// Stay returns which of its neighbours a node keeps when an upstream tells it of so many: none
// but those that are told of if these may be all there are, or else up to 12, drawn at random.
// For if all stayed the first who come would know one another, and nobody the last. It
// changes the order of neighbours.
func Stay[N any](neighbours []N, told int) []N {
	if told < MaxPeers {
		return nil
	}
	rand.Shuffle(len(neighbours), func(i, j int) { neighbours[i], neighbours[j] = neighbours[j], neighbours[i] })
	return neighbours[:min(len(neighbours), peersStay)]
}

const (
	// maxMembers bounds the members in all, and maxPerHost those of one host, both by
	// where they are and by who says so.
	maxMembers = 4096
	maxPerHost = 64

	// probes is how many members are tried at the same time, of one host never more than
	// one, and probeTimeout how long one may take to answer.
	probes       = 8
	probeTimeout = 2 * time.Second

	// probeAgain is when one that could not be reached is tried again.
	probeAgain = 30 * time.Second

	// fullEvery is the time between two warnings that there is no place left.
	fullEvery = time.Minute
)

// A Standing is what became of a node that has joined.
type Standing string

// The standings.
const (
	Reader      Standing = ""            // it wants to be nobody's peer, and is not kept
	Pending     Standing = "pending"     // it has not been tried yet
	Listed      Standing = "listed"      // others are told of it
	Unreachable Standing = "unreachable" // it has been tried, and does not answer
	Refused     Standing = "refused"     // its claim is none, or not allowed, or there is no place left
)

// MembersOptions say who may be a member. Probe and Logger are required.
type MembersOptions struct {
	// Allow are the addresses that any node may claim. Empty is for none: each may be at
	// the address only that it comes from.
	Allow []netip.Prefix

	// Probe returns whether a node answers, or why it does not, before its context ends.
	// It is only called for addresses that a node came from, or that are allowed.
	Probe func(ctx context.Context, at netip.AddrPort) error

	// Logger receives who comes, at debug level, and a warning when there is no place left.
	Logger *slog.Logger
}

// Members are the nodes that follow an upstream and can be reached by others. A node is
// a member for 15 s from each time that it joins, and others are told of it once it has
// been tried. There are 4,096 at most, and 64 of one IP address or IPv6 /64, for which an
// owner of many addresses counts as one (RFC 6177). No node costs a goroutine; at most 8
// are tried at the same time. The methods may be called from any goroutine.
type Members struct {
	opts   MembersOptions
	ctx    context.Context //nolint:containedctx // of the probes, which no caller waits for
	stop   context.CancelFunc
	probes sync.WaitGroup

	mu      sync.Mutex // guards what follows
	closed  bool
	members map[netip.AddrPort]*list.Element
	order   *list.List // of *member, who joined longest ago first
	listed  []*member  // in any order
	hosts   map[netip.Prefix]*host
	queue   *list.List // of *host, that have members to try
	running int        // probes
	warned  time.Time
}

// member is a node that others may be told of.
type member struct {
	at       netip.AddrPort
	hosts    []*host // one or two: where it is, first, and who has said so
	standing Standing
	until    time.Time
	tried    time.Time
	waits    bool // to be tried
	place    int  // in listed
	gone     bool
}

// host is where members are, or who speaks for them.
type host struct {
	prefix  netip.Prefix
	members int
	waiting []*member     // to be tried
	probing bool          // one of them is being tried
	turn    *list.Element // in the queue, or nil
}

// NewMembers returns a Members without any. The caller closes it.
func NewMembers(opts MembersOptions) *Members {
	ctx, stop := context.WithCancel(context.Background())
	return &Members{
		opts: opts, ctx: ctx, stop: stop, members: make(map[netip.AddrPort]*list.Element),
		order: list.New(), hosts: make(map[netip.Prefix]*host), queue: list.New(),
	}
}

// Close ends what is under way, and waits for that. Nobody is tried any more. That of a
// nil Members does nothing.
func (ms *Members) Close() {
	if ms == nil {
		return
	}
	ms.mu.Lock()
	ms.closed = true
	ms.mu.Unlock()
	ms.stop()
	ms.probes.Wait()
}

// Join makes a node that comes from remote a member for 15 s, or for 15 s more. Claim is
// its port there; or an IP address and a port, of which the address must be remote or
// allowed; or 0 for a node that is nobody's peer. It returns where the node is, or zero
// for one that is a reader or was refused.
func (ms *Members) Join(remote netip.Addr, claim string) (netip.AddrPort, Standing) {
	remote = remote.Unmap()
	at, ok := ms.claimed(remote, claim)
	if !ok {
		return netip.AddrPort{}, Refused
	}
	if at.Port() == 0 {
		return netip.AddrPort{}, Reader
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	now := time.Now()
	ms.expire(now)
	e, ok := ms.members[at]
	if !ok {
		if e, ok = ms.add(at, remote, now); !ok {
			return netip.AddrPort{}, Refused
		}
	}
	m := memberOf(e)
	m.until = now.Add(wire.MemberFor)
	ms.order.MoveToBack(e) // all stay for as long, so the first is who goes first
	if m.standing == Unreachable && now.Sub(m.tried) >= probeAgain {
		ms.try(m)
	}
	return at, m.standing
}

// claimed returns where a node from remote is by its claim, with port 0 for a reader, and
// whether it may be there.
func (ms *Members) claimed(remote netip.Addr, claim string) (netip.AddrPort, bool) {
	if !remote.IsValid() || remote.Zone() != "" {
		return netip.AddrPort{}, false // who is only there within a zone is nowhere for others
	}
	if port, err := strconv.ParseUint(claim, 10, 16); err == nil {
		return netip.AddrPortFrom(remote, uint16(port)), true
	}
	at, err := netip.ParseAddrPort(claim)
	if err != nil || at.Port() == 0 {
		return netip.AddrPort{}, false
	}
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if at.Addr() == remote {
		return at, true
	}
	return at, !isNobody(at.Addr()) && contains(ms.opts.Allow, at.Addr())
}

// contains reports whether addr is in one of prefixes, as one with a zone never is.
func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// add makes who is at an address a member, by the word of remote, and reports whether
// there was a place left. The caller holds mu.
func (ms *Members) add(at netip.AddrPort, remote netip.Addr, now time.Time) (*list.Element, bool) {
	if len(ms.members) >= maxMembers {
		if now.Sub(ms.warned) >= fullEvery {
			ms.warned = now
			ms.opts.Logger.Warn("swarm is full", "members", maxMembers, "refused", at)
		}
		return nil, false
	}
	prefixes := []netip.Prefix{hostOf(at.Addr())}
	if by := hostOf(remote); by != prefixes[0] {
		prefixes = append(prefixes, by)
	}
	for _, prefix := range prefixes {
		if h := ms.hosts[prefix]; h != nil && h.members >= maxPerHost {
			return nil, false
		}
	}
	m := &member{at: at, standing: Pending}
	for _, prefix := range prefixes {
		h, ok := ms.hosts[prefix]
		if !ok {
			h = &host{prefix: prefix}
			ms.hosts[prefix] = h
		}
		h.members++
		m.hosts = append(m.hosts, h)
	}
	e := ms.order.PushBack(m)
	ms.members[at] = e
	ms.try(m)
	return e, true
}

// hostOf returns what counts as one host: an IPv4 address, or an IPv6 /64.
func hostOf(addr netip.Addr) netip.Prefix {
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	prefix, _ := addr.Prefix(bits) // never fails, without a zone
	return prefix
}

func memberOf(e *list.Element) *member {
	m, _ := e.Value.(*member)
	return m
}

// expire removes those who have not joined again in time. The caller holds mu.
func (ms *Members) expire(now time.Time) {
	for e := ms.order.Front(); e != nil; e = ms.order.Front() {
		m := memberOf(e)
		if now.Before(m.until) {
			return
		}
		ms.order.Remove(e)
		delete(ms.members, m.at)
		m.gone = true
		if m.standing == Listed {
			last := ms.listed[len(ms.listed)-1]
			ms.swap(m, last)
			ms.listed = ms.listed[:len(ms.listed)-1]
		}
		h := m.hosts[0]
		if i := slices.Index(h.waiting, m); i >= 0 {
			h.waiting = slices.Delete(h.waiting, i, i+1)
		}
		for _, h := range m.hosts {
			h.members--
			ms.settle(h)
		}
	}
}

// swap has two that are listed change places. The caller holds mu.
func (ms *Members) swap(a, b *member) {
	a.place, b.place = b.place, a.place
	ms.listed[a.place], ms.listed[b.place] = a, b
}

// settle has h wait for its turn if it has members to try, and forgets it if it has none
// at all. The caller holds mu.
func (ms *Members) settle(h *host) {
	waits := len(h.waiting) > 0 && !h.probing
	if waits && h.turn == nil {
		h.turn = ms.queue.PushBack(h)
	} else if !waits && h.turn != nil {
		ms.queue.Remove(h.turn)
		h.turn = nil
	}
	if h.members == 0 && !h.probing {
		delete(ms.hosts, h.prefix)
	}
}

// try has m tried when it is its host's turn. Hosts take turns, so that one whose members
// take their time does not hold up others'. The caller holds mu.
func (ms *Members) try(m *member) {
	if m.waits || ms.closed {
		return
	}
	m.waits = true
	h := m.hosts[0]
	h.waiting = append(h.waiting, m)
	ms.settle(h)
	if h.turn != nil && ms.running < probes {
		ms.running++
		ms.probes.Go(ms.probe)
	}
}

// probe tries members until none waits.
func (ms *Members) probe() {
	for {
		m := ms.next()
		if m == nil {
			return
		}
		ctx, cancel := context.WithTimeout(ms.ctx, probeTimeout)
		err := ms.opts.Probe(ctx, m.at)
		cancel()
		ms.tried(m, err)
		if err == nil {
			ms.opts.Logger.Debug("peer reached", "peer", m.at)
		} else {
			ms.opts.Logger.Debug("peer not reached", "peer", m.at, "err", err)
		}
	}
}

// next returns whose turn it is, or nil if it is nobody's, whose caller ends then.
func (ms *Members) next() *member {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.expire(time.Now())
	e := ms.queue.Front()
	if e == nil || ms.closed {
		ms.running--
		return nil
	}
	h, _ := e.Value.(*host)
	m := h.waiting[0]
	h.waiting = h.waiting[1:]
	h.probing = true
	ms.settle(h)
	return m
}

// tried notes how m has done.
func (ms *Members) tried(m *member, err error) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	h := m.hosts[0]
	h.probing = false
	ms.settle(h)
	m.waits = false
	if m.gone {
		return
	}
	m.tried = time.Now()
	if err != nil {
		m.standing = Unreachable
		return
	}
	m.standing = Listed
	m.place = len(ms.listed)
	ms.listed = append(ms.listed, m)
}

// Peers returns up to 16 of those who are listed, drawn at random and without asker,
// which is zero for who is none. What it costs does not depend on how many there are.
func (ms *Members) Peers(asker netip.AddrPort) []netip.AddrPort {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.expire(time.Now())
	var peers []netip.AddrPort
	// The first of a shuffle that goes no further (Knuth, TAOCP 2, algorithm 3.4.2P).
	for i := 0; i < len(ms.listed) && len(peers) < MaxPeers; i++ {
		ms.swap(ms.listed[i], ms.listed[i+rand.IntN(len(ms.listed)-i)])
		if at := ms.listed[i].at; at != asker {
			peers = append(peers, at)
		}
	}
	return peers
}

// Count returns how many members are listed. That of a nil Members is -1, for there is no
// swarm.
func (ms *Members) Count() int {
	if ms == nil {
		return -1
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.expire(time.Now())
	return len(ms.listed)
}
