package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/bucket"
	"github.com/shardcast/shardcast/internal/conns"
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
	// many, one host keeps a quarter of them, and slow readers lose theirs, see slots.
	Connections int

	// ConnectionsPerClient is that of shards to one client.
	ConnectionsPerClient int
}

// errBusy means that as many shards are being sent as the limits allow.
var errBusy = errors.New("too many shards are being sent already")

// crowd is the number of shards under way from which on the kernel holds little of each
// further one, see [conns.HoldLittle].
const crowd = 128

// gate keeps the limits.
type gate struct {
	limits Limits
	bucket *bucket.Bucket // of all clients, or nil
	slots  *slots         // or nil for any number of shards

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

func newGate(limits Limits) *gate {
	g := &gate{limits: limits, bucket: bucket.New(limits.Rate), clients: make(map[netip.Addr]*client)}
	if limits.Connections > 0 {
		g.slots = newSlots(limits.Connections, 0)
	}
	return g
}

// limit has next answer within the limits. A GET of a shard beyond the number that may be
// under way gets errBusy before anything of the shard is opened; of probes there are never
// too many.
func (g *gate) limit(next endpoint) endpoint {
	return func(w http.ResponseWriter, r *http.Request, t target) error {
		if r.Method != http.MethodGet {
			return next(w, r, t)
		}
		a, err := g.enter(r.RemoteAddr, t.kind == kindShard)
		if err != nil {
			return err
		}
		defer g.leave(a)
		if g.slots != nil && t.kind == kindShard {
			leave, err := g.slots.enter(r, false)
			if err != nil {
				return errBusy
			}
			defer leave()
		}
		if a.crowded {
			conns.HoldLittle(r)
		}
		t.buckets = a.buckets
		return next(w, r, t)
	}
}

// admission is an answer that the gate has let through.
type admission struct {
	addr    netip.Addr
	client  *client
	buckets []*bucket.Bucket
	crowded bool
}

// enter admits an answer to the client at remote. It returns an error matching errBusy if
// the number is bounded, and reached.
func (g *gate) enter(remote string, bounded bool) (admission, error) {
	// An address that cannot be read, as of another kind of socket, is one client.
	from, _ := netip.ParseAddrPort(remote)
	a := admission{addr: from.Addr()}
	g.mu.Lock()
	defer g.mu.Unlock()
	a.client = g.clients[a.addr]
	if a.client == nil {
		a.client = &client{bucket: bucket.New(g.limits.RatePerClient)}
	}
	if most := g.limits.ConnectionsPerClient; bounded && most > 0 && a.client.sending >= most {
		return admission{}, fmt.Errorf("%w to %s", errBusy, a.addr)
	}
	g.clients[a.addr] = a.client
	g.sending++
	a.client.sending++
	a.crowded = bounded && g.sending > crowd
	// The client's own comes first: while a reader waits for that, others have the rest.
	for _, b := range []*bucket.Bucket{a.client.bucket, g.bucket} {
		if b != nil {
			a.buckets = append(a.buckets, b)
		}
	}
	return a, nil
}

// leave ends an admission.
func (g *gate) leave(a admission) {
	g.mu.Lock()
	g.sending--
	a.client.sending--
	g.mu.Unlock()
	g.forget(a.addr, a.client)
}

// forget drops c when nothing is being sent to it and its bucket is full, and not before,
// or a client that comes back at once would find a full one.
func (g *gate) forget(addr netip.Addr, c *client) {
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

// throttled reads a shard no faster than its buckets fill. It sits on this side of the
// copy, not around the [http.ResponseWriter], so that the bytes go to the socket at once
// and not to a buffer on the way.
type throttled struct {
	io.ReadSeeker

	ctx     context.Context //nolint:containedctx // of the request, whose end ends the waiting
	buckets []*bucket.Bucket
}

// throttle returns content as buckets let it be read: itself without buckets, so that the
// kernel can send it.
func throttle(ctx context.Context, content io.ReadSeeker, buckets []*bucket.Bucket) io.ReadSeeker {
	if len(buckets) == 0 {
		return content
	}
	return throttled{content, ctx, buckets}
}

// Read reads up to len(p) bytes when all buckets hold them.
func (t throttled) Read(p []byte) (int, error) {
	for _, b := range t.buckets {
		p = p[:min(len(p), b.Burst())]
	}
	for _, b := range t.buckets {
		if err := b.Take(t.ctx, len(p)); err != nil {
			return 0, err
		}
	}
	return t.ReadSeeker.Read(p)
}
