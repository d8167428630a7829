package conns

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/trip"
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

	// queued is the part of the least round trip by which one is longer where packets wait in a
	// queue: a fifth. What is lost from a full queue is for the control to notice.
	queued = 5

	// signs are as many losses without a queue, within suspectFor and at least twice as many as those in a
	// queue, as make the way to a host lossy; half of them do for one connection. A sign is a connection with
	// losses in a look. A few come from the beginning of connections, which fill the queue faster than a look sees.
	signs      = 4
	suspectFor = 5 * time.Second

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

// A suspicion is what the readings of a host's connections have shown so far. The zero value is for a new host.
type suspicion struct {
	since        time.Time // the first of these
	free, queued int       // connections with losses in a look, without a queue and with one
}

// add takes the readings of a look, each with the one before, and reports whether the way is long and loses
// packets that no queue does.
func (s *suspicion) add(now time.Time, steps []step) bool {
	if now.Sub(s.since) > suspectFor {
		*s = suspicion{since: now}
	}
	for _, at := range steps {
		least := at.now.least
		switch {
		case at.now.resent == at.before.resent || least < trip.Long:
		case max(at.now.trip, at.before.trip) > least+least/queued:
			s.queued++
		default:
			s.free++
		}
	}
	return s.free >= signs/2*min(2, len(steps)) && s.free >= 2*s.queued
}

// A step is from one reading of a connection to the next.
type step struct{ before, now reading }

// A control chooses the congestion control of connections where [Auto] is asked for.
type control struct {
	logger *slog.Logger

	mu    sync.Mutex                 // guards what follows
	lossy map[netip.Prefix]time.Time // until when further connections of the host begin with BBR
	deaf  bool                       // the kernel does not let us

	hosts map[netip.Prefix]*suspicion // of looks alone, which come one after the other
}

// newControl returns one that knows of no host.
func newControl(logger *slog.Logger) *control {
	return &control{
		logger: logger, lossy: make(map[netip.Prefix]time.Time), hosts: make(map[netip.Prefix]*suspicion),
	}
}

// begin has a new connection of a host that is known begin with BBR.
func (c *control) begin(conn net.Conn, host netip.Prefix) {
	c.mu.Lock()
	until, known := c.lossy[host]
	known = known && !c.deaf && time.Now().Before(until)
	c.mu.Unlock()
	if known {
		c.change(conn)
	}
}

// A way is what looks know of a connection. The zero value is for a new one.
type way struct {
	last  reading
	ended bool // there is nothing to change, or to read
}

// A sight is a connection that a look sees.
type sight struct {
	conn net.Conn
	way  *way
}

// look takes a reading of each connection with a request, by host. Those of a host have the same way: all of them
// get another control when it is lossy, or each would have to lose packets first, beside others that take its room.
func (c *control) look(busy map[netip.Prefix][]sight) {
	maps.DeleteFunc(c.hosts, func(_ netip.Prefix, of *suspicion) bool { return time.Since(of.since) > suspectFor })
	for host, sights := range busy {
		var seen []sight
		var steps []step
		for _, s := range sights {
			r, ok := reading{}, false
			if !s.way.ended {
				r, ok = read(s.conn)
			}
			if s.way.ended = !ok; ok {
				seen, steps = append(seen, s), append(steps, step{s.way.last, r})
				s.way.last = r
			}
		}
		if steps != nil {
			c.take(host, seen, steps)
		}
	}
}

// take takes the readings of the connections of a host, which may get another control for them.
func (c *control) take(host netip.Prefix, seen []sight, steps []step) {
	of := c.hosts[host]
	if of == nil {
		of = new(suspicion)
		c.hosts[host] = of
	}
	if !of.add(time.Now(), steps) {
		return
	}
	delete(c.hosts, host)
	for _, s := range seen {
		s.way.ended = true
		if !c.change(s.conn) {
			return
		}
	}
	c.logger.Debug("a long way loses packets", "host", host.Addr().String(), "round_trip", steps[0].now.least,
		"connections", len(seen), "congestion", lossyControl)
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
		return true
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
