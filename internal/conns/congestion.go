package conns

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"sync"
	"time"
)

// Congestion controls of a server's connections besides those of the kernel, which have names
// such as bbr: see tcp(7).
const (
	// Auto leaves connections to the kernel, but for those on a long way that loses packets:
	// they get BBR, which does not take a lost packet for a full link.
	Auto = "auto"

	// System leaves all connections to the kernel.
	System = "system"

	lossyControl = "bbr"
)

const (
	// lookEvery is the time between two looks at the connections with a request.
	lookEvery = 250 * time.Millisecond

	// longTrip is the least round trip of a long way. On a shorter one each control recovers
	// from a loss in time.
	longTrip = 20 * time.Millisecond

	// queued is the part of the least round trip by which one is longer where packets wait in a
	// queue: a fifth. What is lost from a full queue is for the control to notice.
	queued = 5

	// signs are as many looks with losses and no queue, within suspectFor, make a way lossy. One
	// may come from the beginning of a connection, which fills the queue faster than a look sees.
	signs      = 2
	suspectFor = 10 * time.Second

	// rememberFor is how long further connections of a host begin with BBR, and maxLossy how many
	// hosts are remembered.
	rememberFor = 10 * time.Minute
	maxLossy    = 4096
)

// congestionName is what the kernel takes as a name: up to 15 bytes.
var congestionName = regexp.MustCompile(`^[a-z0-9_-]{1,15}$`)

// CheckCongestion returns an error if name can be no congestion control: it is [Auto], [System]
// or what may be a name of the kernel's. Whether the kernel has it, [Serve] finds out.
func CheckCongestion(name string) error {
	if !congestionName.MatchString(name) {
		return fmt.Errorf("congestion control %q, want auto, system, or a name such as bbr or cubic", name)
	}
	return nil
}

// A reading is what the kernel knows of a connection's way.
type reading struct {
	trip, least time.Duration // round trips: the smoothed one, and the least so far
	resent      uint32        // segments so far
}

// A suspicion is what a connection's readings have shown so far. The zero value is for a new one.
type suspicion struct {
	last  reading
	signs int
	since time.Time // of the first sign
	ended bool      // the way is known, or the control is another one
}

// add takes the next reading, and reports whether the way is long and loses packets that no
// queue does.
func (s *suspicion) add(r reading, now time.Time) bool {
	lost, before := r.resent != s.last.resent, s.last.trip
	s.last = r
	if !lost || r.least < longTrip || max(r.trip, before) > r.least+r.least/queued {
		return false
	}
	if s.signs == 0 || now.Sub(s.since) > suspectFor {
		s.signs, s.since = 0, now
	}
	s.signs++
	return s.signs >= signs
}

// A control chooses the congestion control of connections where [Auto] is asked for.
type control struct {
	logger *slog.Logger

	mu    sync.Mutex // guards what follows
	lossy map[netip.Prefix]time.Time
	deaf  bool // the kernel does not let us
}

// newControl returns one that knows of no host.
func newControl(logger *slog.Logger) *control {
	return &control{logger: logger, lossy: make(map[netip.Prefix]time.Time)}
}

// begin has a new connection of a host that is known begin with BBR, and reports whether it does.
func (c *control) begin(conn net.Conn, host netip.Prefix) bool {
	c.mu.Lock()
	until, known := c.lossy[host]
	known = known && !c.deaf && time.Now().Before(until)
	c.mu.Unlock()
	return known && c.change(conn)
}

// look takes a reading of a connection.
func (c *control) look(conn net.Conn, host netip.Prefix, s *suspicion) {
	if s.ended {
		return
	}
	r, ok := read(conn)
	if !ok {
		s.ended = true
		return
	}
	c.take(conn, host, s, r)
}

// take takes the next reading of a connection, which may get another control for it.
func (c *control) take(conn net.Conn, host netip.Prefix, s *suspicion, r reading) {
	if !s.add(r, time.Now()) {
		return
	}
	s.ended = true
	if !c.change(conn) {
		return
	}
	c.logger.Debug("a long way loses packets", "peer", conn.RemoteAddr().String(), "round_trip", r.least,
		"resent", r.resent, "congestion", lossyControl)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.lossy) >= maxLossy {
		clear(c.lossy)
	}
	c.lossy[host] = time.Now().Add(rememberFor)
}

// change gives a connection BBR, and reports whether the kernel lets us.
func (c *control) change(conn net.Conn) bool {
	err := setCongestion(conn, lossyControl)
	if err == nil || errors.Is(err, net.ErrClosed) {
		return err == nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.deaf {
		c.logger.Info("a way that loses packets stays slow", "congestion", lossyControl, "err", err,
			"hint", "load the module tcp_bbr, and allow it: sysctl net.ipv4.tcp_allowed_congestion_control")
	}
	c.deaf = true
	return false
}
