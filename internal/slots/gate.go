package slots

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/bucket"
)

// Limits bound the sending of shards, and the rate of data1.bin. Zero means no limit, and
// negative values are not allowed. A client is an IP address, so all clients behind one NAT
// or proxy count as one.
//
// A rate is kept by a bucket that holds 50 ms of it, 1 KiB at least, and is full at first.
// Readers that share a bucket take turns, so each gets the same, and one that leaves gives
// up its turn. Where two rates apply, the lower one wins.
type Limits struct {
	// Rate is for all clients together, in bytes per second.
	Rate int64

	// RatePerClient is for one client, in bytes per second.
	RatePerClient int64

	// Connections is the number of shards that are sent at the same time. When there are as
	// many, one host keeps a quarter of them, and slow readers lose theirs, see [Slots].
	Connections int

	// ConnectionsPerClient is that of shards to one client.
	ConnectionsPerClient int
}

// ErrBusy means that as many shards are being sent as the limits allow.
var ErrBusy = errors.New("too many shards are being sent already")

// Crowd is the number of shards under way from which on the kernel holds little of each
// further one, see [conns.HoldLittle].
const Crowd = 128

// A Gate keeps limits.
type Gate struct {
	limits Limits
	bucket *bucket.Bucket // of all clients, or nil
	slots  *Slots         // or nil for any number of shards

	mu      sync.Mutex // guards what follows
	sending int        // shards
	clients map[netip.Addr]*client
}

// client is an address that receives shards, or whose bucket is not full yet. The gate's mu
// guards its counts.
type client struct {
	bucket  *bucket.Bucket // or nil
	sending int            // shards
	timed   bool           // a timer will forget it; one is enough
}

// NewGate returns a gate that keeps limits.
func NewGate(limits Limits) *Gate {
	g := &Gate{limits: limits, bucket: bucket.New(limits.Rate), clients: make(map[netip.Addr]*client)}
	if limits.Connections > 0 {
		g.slots = New(limits.Connections, 0)
	}
	return g
}

// An Admission is an answer that the gate has let through.
type Admission struct {
	// Buckets are those from which the answer is taken.
	Buckets []*bucket.Bucket

	// Crowded means that so many answers are under way that the kernel has to hold little of
	// each.
	Crowded bool

	gate   *Gate
	addr   netip.Addr
	client *client
	leave  func() // of the slot, or nil
}

// Enter admits an answer to a reader until [Admission.Leave]. It returns an error matching
// [ErrBusy] if the number is bounded, as that of shards is, and reached.
func (g *Gate) Enter(ctx context.Context, r Reader, bounded bool) (Admission, error) {
	a, err := g.enter(r.Remote, bounded)
	if err != nil || !bounded || g.slots == nil {
		return a, err
	}
	leave, ok := g.slots.Enter(ctx, r, false)
	if !ok {
		a.Leave()
		return Admission{}, ErrBusy
	}
	a.leave = leave
	return a, nil
}

// enter is [Gate.Enter] without slots.
func (g *Gate) enter(remote string, bounded bool) (Admission, error) {
	// An address that cannot be read, as of another kind of socket, is one client.
	from, _ := netip.ParseAddrPort(remote)
	a := Admission{gate: g, addr: from.Addr()}
	g.mu.Lock()
	defer g.mu.Unlock()
	a.client = g.clients[a.addr]
	if a.client == nil {
		a.client = &client{bucket: bucket.New(g.limits.RatePerClient)}
	}
	if most := g.limits.ConnectionsPerClient; bounded && most > 0 && a.client.sending >= most {
		return Admission{}, fmt.Errorf("%w to %s", ErrBusy, a.addr)
	}
	g.clients[a.addr] = a.client
	g.sending++
	a.client.sending++
	a.Crowded = bounded && g.sending > Crowd
	// The client's own comes first: while a reader waits for that, others have the rest.
	for _, b := range []*bucket.Bucket{a.client.bucket, g.bucket} {
		if b != nil {
			a.Buckets = append(a.Buckets, b)
		}
	}
	return a, nil
}

// Leave ends the admission.
func (a Admission) Leave() {
	if a.leave != nil {
		a.leave()
	}
	g := a.gate
	g.mu.Lock()
	g.sending--
	a.client.sending--
	g.mu.Unlock()
	g.forget(a.addr, a.client)
}

// Load returns the number of answers under way, and of clients that are remembered.
func (g *Gate) Load() (answers, clients int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sending, len(g.clients)
}

// forget drops c when nothing is being sent to it and its bucket is full, and not before,
// or a client that comes back at once would find a full one.
func (g *Gate) forget(addr netip.Addr, c *client) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.sending > 0 || c.timed || g.clients[addr] != c {
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
		c.timed = false
		g.mu.Unlock()
		g.forget(addr, c)
	})
}
