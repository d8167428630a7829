// Package peering swaps the shards of versions with the peers of a swarm: it finds peers,
// hears which shards they have, and is a [transfer.Plan] that takes from them. Package
// swarm decides what to take from which node. Peering refuses to know how versions are
// listed.
//
// A caller may lean on this: peers cost time and no more. All digests come from upstreams,
// a peer is where its upstream may name one and nowhere else, and a shard that peers do
// not bring comes from upstream in the end.
//
// A node lists its own shards in the server, from the board that its transfers fill; it
// never lists itself to itself.
package peering

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/backoff"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signal"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/transfer"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// joinFirst is the wait before the second request for peers. It is doubled up to
	// wire.JoinEvery: at first peers join at the same time.
	joinFirst = 100 * time.Millisecond

	// A node that has begun to ask for peers knows some within firstPeers, if there are any, and most
	// within mostPeers.
	firstPeers = 300 * time.Millisecond
	mostPeers  = time.Second

	// mostKnown is how many peers are remembered.
	mostKnown = 256

	// A host where a peer fails is left alone for hostPauseFirst, and each time again twice as
	// long, up to hostPauseMost; then one peer there is tried. Up to mostPauses are remembered.
	hostPauseFirst = time.Second
	hostPauseMost  = 5 * time.Minute
	mostPauses     = 1024

	// deafAfter is how often in a row a peer may fail to list its shards before others are
	// taken in its place.
	deafAfter = 3
)

// Options configure a [Swarm].
type Options struct {
	Remote *remote.Client
	Roster *roster.Roster

	// Allow is where peers may be that upstreams name, besides where they may be anyhow,
	// see [swarm.ParsePeers].
	Allow []netip.Prefix

	// Node is what peers know this node by over TLS. It is needed if an upstream speaks TLS.
	Node *Node

	Logger *slog.Logger
}

// A Swarm is the swarms of all upstreams: the peers that these name. Its methods may be
// called from any goroutine.
type Swarm struct {
	opts    Options
	began   time.Time
	changed signal.Signal // upstreams name other peers

	mu       sync.Mutex // guards what follows
	named    map[*remote.Server][]*peer
	standing map[*remote.Server]swarm.Standing // of this node at an upstream
	tickets  map[*remote.Server]string         // of this node, by an upstream that speaks TLS
	known    []*peer                           // ever named, but for those forgotten
	under    []*Plan                           // that have not ended
	pauses   map[netip.Prefix]*hostPause
}

// hostPause is how a host with peers is left alone that fails: an upstream may name any
// ports of any host, which need be no node.
type hostPause struct {
	wait   backoff.Doubling
	failed time.Time // the last time
	later  time.Time // when one peer there may be tried
}

// peer is one peer. All but its server is guarded by the mu of the swarm.
type peer struct {
	server    *remote.Server
	key       swarm.Key // zero for one that speaks plain HTTP
	deaf      int       // how often in a row it did not list its shards
	transfers int       // requests for shards under way
	err       error     // of its last request, or nil
}

// New returns a Swarm without peers.
func New(opts Options) *Swarm {
	return &Swarm{
		opts: opts, began: time.Now(),
		named: make(map[*remote.Server][]*peer), standing: make(map[*remote.Server]swarm.Standing),
		tickets: make(map[*remote.Server]string), pauses: make(map[netip.Prefix]*hostPause),
	}
}

// hostOf returns the host of a peer.
func hostOf(p *peer) netip.Prefix {
	at, err := netip.ParseAddrPort(p.server.Host())
	if err != nil {
		return netip.Prefix{}
	}
	return wire.HostOf(at.Addr())
}

// pause returns how long the host of a peer is to be left alone. If that is not at all, and
// the host has failed, the caller is the one that tries it.
func (w *Swarm) pause(p *peer) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.pauses[hostOf(p)]
	if h == nil {
		return 0
	}
	now := time.Now()
	if wait := h.later.Sub(now); wait > 0 {
		return wait
	}
	h.later = now.Add(hostPauseFirst)
	return 0
}

// await waits until the host of a peer may be tried. It calls left if that is not now.
func (w *Swarm) await(ctx context.Context, p *peer, left func()) error {
	for {
		pause := w.pause(p)
		if pause == 0 {
			return nil
		}
		left()
		if err := roster.Sleep(ctx, pause, nil); err != nil {
			return err
		}
	}
}

// tried notes the result of trying a peer since start. What began before the last failure of
// its host fails with that.
func (w *Swarm) tried(p *peer, start time.Time, err error) {
	host := hostOf(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.deaf++; err == nil {
		p.deaf = 0
		delete(w.pauses, host)
		return
	}
	h := w.pauses[host]
	if h == nil {
		if len(w.pauses) >= mostPauses {
			maps.DeleteFunc(w.pauses, func(_ netip.Prefix, h *hostPause) bool { return time.Since(h.later) > 0 })
		}
		if len(w.pauses) >= mostPauses {
			return
		}
		h = &hostPause{wait: backoff.Doubling{First: hostPauseFirst, Most: hostPauseMost}}
		w.pauses[host] = h
	}
	if start.Before(h.failed) {
		return
	}
	h.failed = time.Now()
	h.later = h.failed.Add(h.wait.Next())
}

// Join takes part in the swarms until ctx ends: it announces to upstreams that peers can
// reach this node by the port of plain, or of secure where the upstream speaks TLS, and asks
// for peers. No peer can reach a nil address.
func (w *Swarm) Join(ctx context.Context, plain, secure net.Addr) {
	w.opts.Roster.Each(ctx, func(ctx context.Context, upstream *remote.Server) {
		at := plain
		if isSecure(upstream) {
			at = secure
		}
		port := 0
		if tcp, ok := at.(*net.TCPAddr); ok {
			port = tcp.Port
		}
		defer w.meet(upstream, nil, swarm.Reader)
		for wait := (backoff.Doubling{First: joinFirst, Most: wire.JoinEvery}); ; {
			if err := w.ask(ctx, upstream, port); err != nil && ctx.Err() == nil {
				w.opts.Logger.Debug("peers unavailable", "upstream", upstream.Name, "err", err)
			}
			if roster.Sleep(ctx, wait.Next(), nil) != nil {
				return
			}
		}
	})
}

// ask asks an upstream for peers.
func (w *Swarm) ask(ctx context.Context, upstream *remote.Server, port int) error {
	header := map[string]string{wire.PeerHeader: strconv.Itoa(port)}
	if isSecure(upstream) {
		header[wire.PeerKeyHeader] = w.opts.Node.Key.String()
	}
	body, err := w.opts.Remote.Get(ctx, upstream, remote.Request{Path: []string{wire.PeersName}, Header: header})
	if err != nil {
		return err
	}
	defer body.Close()
	w.admit(upstream, body)
	named := swarm.ParsePeers(body, body.Addr, isSecure(upstream), w.opts.Allow)
	w.meet(upstream, named, swarm.Standing(body.Header.Get(wire.PeerHeader)))
	return nil
}

// meet notes which peers an upstream names, and the standing of this node there. Of the
// peers that it named before, some stay, see [swarm.Stay].
func (w *Swarm) meet(upstream *remote.Server, named []swarm.Peer, standing swarm.Standing) {
	hosts := make(map[string]bool) // of upstreams, which are no peers
	for _, s := range w.opts.Roster.Servers() {
		hosts[s.Host()] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.standing[upstream] = standing
	heard := slices.DeleteFunc(slices.Clone(w.named[upstream]), func(p *peer) bool { return p.deaf >= deafAfter })
	peers := swarm.Stay(heard, len(named))
	for _, one := range named {
		if len(peers) == swarm.MaxPeers {
			break
		}
		if hosts[one.At.String()] {
			continue
		}
		if p := w.peer(one); !slices.Contains(peers, p) {
			peers = append(peers, p)
		}
	}
	// Upstreams name peers in any order.
	slices.SortFunc(peers, func(a, b *peer) int { return slices.Index(w.known, a) - slices.Index(w.known, b) })
	if !slices.Equal(peers, w.named[upstream]) {
		w.named[upstream] = peers
		w.changed.Raise()
	}
}

// peer returns a peer that is named, with w locked. Where too many are known, one is forgotten that
// no upstream names.
func (w *Swarm) peer(one swarm.Peer) *peer {
	u, forgotten := one.URL(), -1
	for i, p := range w.known {
		if p.server.Name == u.Redacted() && p.key == one.Key {
			return p
		}
		isNamed := false
		for _, peers := range w.named {
			isNamed = isNamed || slices.Contains(peers, p)
		}
		if p.transfers == 0 && !isNamed {
			forgotten = i
		}
	}
	p := &peer{server: remote.NewPeer(u), key: one.Key}
	if one.Key != (swarm.Key{}) {
		p.server = remote.NewPinned(u, one.Key)
	}
	if len(w.known) >= mostKnown && forgotten >= 0 {
		w.opts.Remote.Forget(w.known[forgotten].server)
		w.known[forgotten] = p
	} else {
		w.known = append(w.known, p)
	}
	return p
}

// youngUntil returns until when the node may have peers that it does not know, where it knows some or none.
func (w *Swarm) youngUntil(some bool) time.Time {
	if some {
		return w.began.Add(mostPeers)
	}
	return w.began.Add(firstPeers)
}

// isReader reports whether no peer can reach this node: upstreams say so, and none lists
// it or has yet to try.
func (w *Swarm) isReader() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := false
	for _, standing := range w.standing {
		switch standing {
		case swarm.Pending, swarm.Listed:
			return false
		case swarm.Unreachable, swarm.Refused:
			said = true
		case swarm.Reader: // the upstream says nothing
		}
	}
	return said
}

// Neighbours returns the peers to swap shards with.
func (w *Swarm) Neighbours() []*remote.Server {
	servers := make([]*remote.Server, 0, swarm.MaxPeers)
	for _, p := range w.neighbours() {
		servers = append(servers, p.server)
	}
	return servers
}

func (w *Swarm) neighbours() (peers []*peer) {
	upstreams := w.opts.Roster.Servers()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range upstreams {
		for _, p := range w.named[s] {
			if len(peers) < swarm.MaxPeers && !slices.Contains(peers, p) {
				peers = append(peers, p)
			}
		}
	}
	return peers
}

// States returns how the peers are that are known, in an order that stays.
func (w *Swarm) States() []transfer.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	states := make([]transfer.State, 0, len(w.known))
	for _, p := range w.known {
		u := transfer.Upstream{URL: p.server.Name, Peer: true, State: roster.Idle, Transfers: p.transfers}
		switch {
		case p.transfers > 0:
			u.State = roster.Sending
		case p.err != nil:
			u.State, u.Err = roster.Failing, p.err
		}
		states = append(states, transfer.State{Server: p.server, Upstream: u})
	}
	return states
}

// change changes a peer.
func (w *Swarm) change(how func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	how()
}

// isBehind reports whether a newer version than v comes, too.
func (w *Swarm) isBehind(v shard.Version) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.under, func(p *Plan) bool { return p.opts.Version > v })
}
