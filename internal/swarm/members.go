package swarm

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// probes is the number of members that are probed at the same time, never two of one
	// host, and probeTimeout the time that a member has to answer.
	probes       = 8
	probeTimeout = 2 * time.Second

	// fullEvery is the time between two warnings that the swarm is full.
	fullEvery = time.Minute
)

// A Standing is the result of joining, for the node that joins.
type Standing string

// The standings.
const (
	Reader      Standing = ""            // the node has no port for peers, and is no member
	Pending     Standing = "pending"     // not probed yet
	Listed      Standing = "listed"      // the server lists it to other nodes
	Unreachable Standing = "unreachable" // probed without an answer
	Refused     Standing = "refused"     // the claim is malformed or not allowed, or the swarm is full
)

// MembersOptions are the options of [NewMembers]. Probe and Logger are required.
type MembersOptions struct {
	// Allow are the addresses that any node may claim. Empty means that each node is at the
	// address from which it connects.
	Allow []netip.Prefix

	// Probe connects to a node, and returns nil if it answers before the context ends. The
	// address is one from which a node connected, or one of Allow.
	Probe func(ctx context.Context, p Peer) error

	// Issuer signs the tickets of nodes, which all speak TLS then. Nil is for a server that does
	// not, and whose nodes do not either.
	Issuer *Issuer

	// Logger receives each probe at debug level, and a warning when the swarm is full.
	Logger *slog.Logger
}

// Members are the nodes that follow a server and that other nodes can reach. A node is a
// member for 15 s from each time that it joins, and the server lists it to others after a
// successful probe. There are at most 4,096 members, and 64 for one IP address or IPv6 /64,
// as one site has many addresses (RFC 6177). No member costs a goroutine; at most 8 probes
// run at the same time. The methods may be called from any goroutine.
type Members struct {
	opts   MembersOptions
	ctx    context.Context //nolint:containedctx // of the probes, which no caller waits for
	stop   context.CancelFunc
	probes sync.WaitGroup

	mu       sync.Mutex // guards what follows
	register *register
	running  int // probes
	closed   bool
	warned   time.Time
}

// NewMembers returns a Members without any. The caller closes it.
func NewMembers(opts MembersOptions) *Members {
	ctx, stop := context.WithCancel(context.Background())
	return &Members{opts: opts, ctx: ctx, stop: stop, register: newRegister()}
}

// Close ends all probes, and begins no more. A nil receiver is allowed.
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

// Join makes the node that connects from remote a member for 15 s. Its claim is its port
// there; or an IP address, which must be remote or allowed, and a port; or 0 for a node
// without a port for peers. With an Issuer the node states a key, too, or is refused. Join
// returns the address of the node, which is zero for one that is a reader or refused.
func (ms *Members) Join(remote netip.Addr, claim string, key Key) (netip.AddrPort, Standing) {
	remote = remote.Unmap()
	if ms.opts.Issuer == nil {
		key = Key{}
	}
	at, ok := ms.claimed(remote, claim)
	if !ok {
		return netip.AddrPort{}, Refused
	}
	if at.Port() == 0 {
		return netip.AddrPort{}, Reader
	}
	if ms.opts.Issuer != nil && key == (Key{}) {
		return netip.AddrPort{}, Refused
	}
	standing, warn := ms.join(Peer{at, key}, remote)
	if warn {
		ms.opts.Logger.Warn("swarm is full", "members", maxMembers, "refused", at)
	}
	if standing == Refused {
		at = netip.AddrPort{}
	}
	return at, standing
}

// claimed returns the address that a node from remote claims, with port 0 for a reader, and
// whether it may have that address.
func (ms *Members) claimed(remote netip.Addr, claim string) (netip.AddrPort, bool) {
	if !remote.IsValid() || remote.Zone() != "" {
		return netip.AddrPort{}, false // an address with a zone means nothing to other nodes
	}
	if port, err := strconv.ParseUint(claim, 10, 16); err == nil {
		return netip.AddrPortFrom(remote, uint16(port)), port == 0 || !wire.IsMetadata(remote)
	}
	at, err := netip.ParseAddrPort(claim)
	if err != nil || at.Port() == 0 {
		return netip.AddrPort{}, false
	}
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if at.Addr() == remote {
		return at, !wire.IsMetadata(remote)
	}
	return at, isOneHost(at.Addr()) && contains(ms.opts.Allow, at.Addr())
}

// contains reports whether one of prefixes contains addr. None contains one with a zone.
func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// join makes the node at an address a member, has it probed if that is due, and reports
// whether to warn that the swarm is full.
func (ms *Members) join(p Peer, remote netip.Addr) (standing Standing, warn bool) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	now := time.Now()
	m, full := ms.register.join(p, remote, now)
	if m == nil {
		if warn = full && now.Sub(ms.warned) >= fullEvery; warn {
			ms.warned = now
		}
		return Refused, warn
	}
	if ms.register.queue.Len() > 0 && ms.running < probes && !ms.closed {
		ms.running++
		ms.probes.Go(ms.probe)
	}
	return m.standing, false
}

// probe probes members until none waits for a probe.
func (ms *Members) probe() {
	for {
		m, as := ms.next()
		if m == nil {
			return
		}
		ctx, cancel := context.WithTimeout(ms.ctx, probeTimeout)
		err := ms.opts.Probe(ctx, as)
		cancel()
		ms.note(m, as, err == nil)
		if err == nil {
			ms.opts.Logger.Debug("peer reached", "peer", as.At)
		} else {
			ms.opts.Logger.Debug("peer not reached", "peer", as.At, "err", err)
		}
	}
}

// next returns the member to probe next, and as which peer. On nil its caller ends.
func (ms *Members) next() (m *member, as Peer) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if !ms.closed {
		m = ms.register.next(time.Now())
	}
	if m == nil {
		ms.running--
		return nil, Peer{}
	}
	return m, Peer{m.at, m.key}
}

// note notes the result of a probe of m as a peer.
func (ms *Members) note(m *member, as Peer, reached bool) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.register.note(m, as.Key, reached, time.Now())
}

// Ticket returns a ticket for the node with a key, and the public key that has signed it, or
// nothing without an Issuer or key.
func (ms *Members) Ticket(node Key) (ticket, public string) {
	if ms.opts.Issuer == nil || node == (Key{}) {
		return "", ""
	}
	return ms.opts.Issuer.Issue(node, time.Now()), ms.opts.Issuer.Public()
}

// Peers returns up to 16 of the listed members in random order, of as many hosts as it can,
// without asker, which is zero for a reader. Its cost does not depend on the number of
// members.
func (ms *Members) Peers(asker netip.AddrPort) []Peer {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return ms.register.draw(MaxPeers, asker, time.Now())
}

// Count returns the number of listed members. A nil receiver is allowed: without a swarm
// it returns -1.
func (ms *Members) Count() int {
	if ms == nil {
		return -1
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return ms.register.count(time.Now())
}
