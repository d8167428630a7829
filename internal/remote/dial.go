package remote

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/trip"
)

const (
	// stagger is the time between two attempts to connect to addresses of one name (RFC
	// 8305, section 5).
	stagger = 250 * time.Millisecond

	// mostAddresses of a name are tried.
	mostAddresses = 16

	// spareFor is how long connections are kept for requests to come. Servers wait for the header of a
	// request at least twice as long.
	spareFor = 5 * time.Second
)

// dialer connects to names. All addresses of a name are tried, one more every [stagger] or
// as soon as one fails, and the first connection counts (RFC 8305): an address that does
// not answer costs no more than that.
type dialer struct {
	timeout time.Duration
	lookUp  func(ctx context.Context, network, host string) ([]netip.Addr, error)
	connect func(ctx context.Context, network, address string) (net.Conn, error)
	reach   func(ctx context.Context, network, address string) (net.Conn, error) // all of that; tests have another

	life    context.Context //nolint:containedctx // that of connections for requests to come
	end     context.CancelFunc
	opening sync.WaitGroup // such connections

	mu      sync.Mutex    // guards what follows
	ahead   int           // as many such connections are opened to the next server that is far
	nearest time.Duration // the least round trip of all connections, or 0
	spares  map[string]*spares
}

// spares are connections to one address for requests to come.
type spares struct {
	left  int           // not taken; guarded by the dialer's mu
	conns chan net.Conn // nil for each that failed
}

// newDialer returns the system's, which gives up after a timeout.
func newDialer(timeout time.Duration) *dialer {
	d := &dialer{
		timeout: timeout, lookUp: net.DefaultResolver.LookupNetIP, connect: new(net.Dialer).DialContext,
		spares: make(map[string]*spares),
	}
	d.reach = d.dialNow
	d.life, d.end = context.WithCancel(context.Background())
	return d
}

// close closes the connections for requests to come.
func (d *dialer) close() {
	d.end()
	d.opening.Wait()
}

// expect has so many connections opened to the next server that is far, once it is known to be: requests to
// come then find them, and need not wait for a round trip each.
func (d *dialer) expect(connections int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ahead = connections
}

// isFar reports whether no connection has been nearer than [trip.Long].
func (d *dialer) isFar() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.nearest >= trip.Long
}

// dial connects to an address, whose host may be a name, or returns a connection that was opened ahead.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if conn := d.spare(ctx, address); conn != nil {
		return conn, nil
	}
	began := time.Now()
	conn, err := d.reach(ctx, network, address)
	if err == nil && d.noteTrip(conn, time.Since(began)) {
		d.openSpares(network, address)
	}
	return conn, err
}

// noteTrip notes the least round trip of a new connection and reports whether its way is long. Where the system does
// not say it is the time that connecting took: that has the look-up of a name in it, and waits for the processor.
func (d *dialer) noteTrip(conn net.Conn, took time.Duration) (isLong bool) {
	least, ok := trip.Least(conn)
	if !ok {
		least = took
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.nearest == 0 || least < d.nearest {
		d.nearest = max(least, 1)
	}
	return least >= trip.Long
}

// spare returns a connection that was opened ahead, or nil.
func (d *dialer) spare(ctx context.Context, address string) net.Conn {
	d.mu.Lock()
	s := d.spares[address]
	if s == nil || s.left == 0 {
		d.mu.Unlock()
		return nil
	}
	s.left--
	d.mu.Unlock()
	select {
	case conn := <-s.conns:
		return conn
	case <-ctx.Done():
		d.mu.Lock()
		defer d.mu.Unlock()
		s.left++
		return nil
	}
}

// openSpares opens connections ahead, if these are expected, and closes after a while those that no request has taken.
func (d *dialer) openSpares(network, address string) {
	d.mu.Lock()
	n := d.ahead
	if d.ahead = 0; n == 0 {
		d.mu.Unlock()
		return
	}
	s := &spares{left: n, conns: make(chan net.Conn, n)}
	d.spares[address] = s
	d.mu.Unlock()
	for range n {
		d.opening.Go(func() {
			conn, err := d.reach(d.life, network, address)
			if err != nil {
				conn = nil
			}
			s.conns <- conn
		})
	}
	d.opening.Go(func() {
		select {
		case <-time.After(spareFor):
		case <-d.life.Done():
		}
		d.mu.Lock()
		delete(d.spares, address)
		left := s.left
		s.left = 0
		d.mu.Unlock()
		for range left {
			if conn := <-s.conns; conn != nil {
				_ = conn.Close()
			}
		}
	})
}

// dialNow connects to an address, whose host may be a name.
func (d *dialer) dialNow(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.timeout, fmt.Errorf("no connection within %v", d.timeout))
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return d.connected(ctx, network, address)
	}
	addresses, err := d.lookUp(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	if len(addresses) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	targets := make([]string, 0, mostAddresses)
	for _, a := range alternating(addresses) {
		targets = append(targets, net.JoinHostPort(a.Unmap().String(), port))
	}
	return d.race(ctx, network, targets)
}

// alternating returns the addresses, at most [mostAddresses] of them, in the order in which
// the resolver prefers them, but with the two families in turn (RFC 8305, section 4).
func alternating(addresses []netip.Addr) []netip.Addr {
	var first, other []netip.Addr
	for _, a := range addresses {
		if a.Unmap().Is4() == addresses[0].Unmap().Is4() {
			first = append(first, a)
		} else {
			other = append(other, a)
		}
	}
	var mixed []netip.Addr
	for i := range max(len(first), len(other)) {
		mixed = append(mixed, first[min(i, len(first)):min(i+1, len(first))]...)
		mixed = append(mixed, other[min(i, len(other)):min(i+1, len(other))]...)
	}
	return mixed[:min(len(mixed), mostAddresses)]
}

// race connects to the targets, and returns the first connection. If there is none, the
// error is that of the first target that failed. It returns when every attempt has ended.
func (d *dialer) race(ctx context.Context, network string, targets []string) (won net.Conn, first error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result)
	next := time.NewTimer(0)
	defer next.Stop()
	for begun, ended := 0, 0; ended < len(targets); {
		select {
		case <-next.C:
			if begun < len(targets) && won == nil {
				go func(target string) {
					conn, err := d.connected(ctx, network, target)
					results <- result{conn, err}
				}(targets[begun])
				begun++
				next.Reset(stagger)
			}
		case r := <-results:
			ended++
			switch {
			case r.err == nil && won == nil:
				won = r.conn
				stop()
			case r.err == nil:
				_ = r.conn.Close() // it came too late
			case first == nil:
				first = r.err
			}
			next.Reset(0)
		}
		if won != nil && ended == begun {
			return won, nil
		}
	}
	return nil, first
}

// connected connects to one address. The error says why the context ended, if it did.
func (d *dialer) connected(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.connect(ctx, network, address)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, context.Cause(ctx))
	}
	return conn, err
}
