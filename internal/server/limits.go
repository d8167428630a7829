package server

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/bucket"
)

// Limits bound what a server sends of shards. Zero means no limit, and negative
// values are not allowed. Clients are told apart by their IP address, so those
// behind one NAT or proxy count as one.
type Limits struct {
	// Rate is what is sent to all clients together, in bytes per second.
	Rate int64

	// RatePerClient is what is sent to one client, in bytes per second.
	RatePerClient int64

	// Connections is how many shards are sent at the same time.
	Connections int

	// ConnectionsPerClient is how many shards are sent to one client at the same
	// time.
	ConnectionsPerClient int
}

// errBusy means that as many shards are being sent as may be.
var errBusy = errors.New("too many shards are being sent already")

// gate keeps the limits: who wants to be sent a shard comes through it.
type gate struct {
	limits Limits
	bucket *bucket.Bucket // of all clients, or nil

	mu      sync.Mutex // guards what follows
	sending int        // shards
	clients map[netip.Addr]*client
}

// client is an address that shards are being sent to, or whose bucket is not full
// yet.
type client struct {
	bucket  *bucket.Bucket // or nil
	sending int            // shards
	timed   bool           // a timer will look whether it can be forgotten; one is enough
}

func newGate(limits Limits) *gate {
	return &gate{limits: limits, bucket: bucket.New(limits.Rate), clients: make(map[netip.Addr]*client)}
}

// enter returns the buckets that a shard for the client at remote is to be paid
// from, and what must be called when it has been sent. It returns an error
// matching errBusy if too many are being sent already.
func (g *gate) enter(remote string) (buckets []*bucket.Bucket, leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if most := g.limits.Connections; most > 0 && g.sending >= most {
		return nil, nil, errBusy
	}
	addr, c := g.client(remote)
	if most := g.limits.ConnectionsPerClient; most > 0 && c.sending >= most {
		return nil, nil, fmt.Errorf("%w to %s", errBusy, addr)
	}
	buckets, leave = g.admit(addr, c)
	return buckets, leave, nil
}

// crowd is how many shards are being sent when each of those that follow is held little of.
const crowd = 128

// isCrowded reports whether so many are.
func (g *gate) isCrowded() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sending > crowd
}

// enterAlways is enter for what is not a shard, of which there are never too many.
func (g *gate) enterAlways(remote string) (buckets []*bucket.Bucket, leave func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.admit(g.client(remote))
}

// client returns who is at remote. The caller holds mu.
func (g *gate) client(remote string) (netip.Addr, *client) {
	// An address that cannot be read, as of another kind of socket, is one client.
	addrPort, _ := netip.ParseAddrPort(remote)
	c, ok := g.clients[addrPort.Addr()]
	if !ok {
		c = &client{bucket: bucket.New(g.limits.RatePerClient)}
	}
	return addrPort.Addr(), c
}

// admit begins to send to c, which is at addr. The caller holds mu.
func (g *gate) admit(addr netip.Addr, c *client) (buckets []*bucket.Bucket, leave func()) {
	g.clients[addr] = c
	g.sending++
	c.sending++
	// The client's own comes first: while it waits for that, others have the rest.
	for _, b := range []*bucket.Bucket{c.bucket, g.bucket} {
		if b != nil {
			buckets = append(buckets, b)
		}
	}
	return buckets, func() { g.leave(addr, c) }
}

func (g *gate) leave(addr netip.Addr, c *client) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sending--
	c.sending--
	g.forget(addr, c)
}

// forget drops c when nothing is being sent to it and its bucket is full, and not
// before, or who comes back at once would find a full one. The caller holds mu.
func (g *gate) forget(addr netip.Addr, c *client) {
	if c.sending > 0 || c.timed {
		return
	}
	wait := c.bucket.UntilFull()
	if wait == 0 {
		delete(g.clients, addr)
		return
	}
	c.timed = true
	time.AfterFunc(wait, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		c.timed = false
		g.forget(addr, c)
	})
}
