package conns

import (
	"container/list"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// filesPart is the part of the process's descriptors that are kept for files and for
	// connections to upstreams: a quarter.
	filesPart = 4

	// hostPart is the part of the connections that one host keeps when others want some: a
	// quarter.
	hostPart = 4

	// fullEvery is the time between two warnings that there are too many connections, or
	// too few descriptors.
	fullEvery = time.Minute

	// RaiseHint is the remedy of too few descriptors, for a warning.
	RaiseHint = "raise the limit of open files: ulimit -n, or LimitNOFILE= in a unit"
)

// connections bounds the open connections of a server, so that descriptors are left for its
// files. At the bound it closes the connection that has waited longest for a request, also
// for the rest of one's header; or one of the host that has most, if that are more than its
// part; or the new one.
type connections struct {
	most    int // 0 for no bound
	metrics *metrics.Metrics
	logger  *slog.Logger
	control *control // nil leaves all to the kernel

	mu      sync.Mutex // guards what follows
	looking bool       // a look at the connections is due
	open    map[net.Conn]*connection
	idle    *list.List // of *connection, the longest idle first
	hosts   map[netip.Prefix]int

	warnings Occasional
}

// connection is one open connection.
type connection struct {
	conn  net.Conn
	host  netip.Prefix
	begun time.Time
	idle  *list.Element // or nil while a request is answered

	way way // of the control's looks alone
}

// newConnections returns connections for a process that may have so many descriptors; 0 is
// for no bound.
func newConnections(descriptors int, m *metrics.Metrics, logger *slog.Logger) *connections {
	return &connections{
		most: descriptors - descriptors/filesPart, metrics: m, logger: logger,
		open: make(map[net.Conn]*connection), idle: list.New(), hosts: make(map[netip.Prefix]int),
	}
}

// notice follows the state of a connection, see [http.Server.ConnState].
func (c *connections) notice(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.add(conn)
	case http.StateClosed, http.StateHijacked:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.remove(conn)
	case http.StateActive, http.StateIdle: // see handle
	}
}

// add takes a new connection, for which it may close another one, or the new one.
func (c *connections) add(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := &connection{conn: conn, host: HostOf(conn.RemoteAddr().String()), begun: time.Now()}
	if c.most > 0 && len(c.open) >= c.most {
		c.warn("open", len(c.open))
		if !c.makeRoom(one.host) {
			BreakOff(conn)
			c.metrics.CutConnection(metrics.CutNew)
			return
		}
	}
	c.open[conn] = one
	one.idle = c.idle.PushBack(one)
	c.hosts[one.host]++
	c.metrics.OpenConnections(1)
	if c.control != nil {
		c.control.begin(conn, one.host)
	}
}

// makeRoom closes a connection for a new one of a host, if there is one to be closed.
func (c *connections) makeRoom(host netip.Prefix) bool {
	if c.shed() {
		return true
	}
	most := c.most / hostPart
	var victim *connection
	for _, one := range c.open {
		count := c.hosts[one.host]
		if one.host == host || count <= most {
			continue
		}
		if victim == nil || count > c.hosts[victim.host] ||
			count == c.hosts[victim.host] && one.begun.Before(victim.begun) {
			victim = one
		}
	}
	if victim == nil {
		return false
	}
	c.cut(victim, metrics.CutHost)
	return true
}

// shed closes the longest idle connection, if there is one.
func (c *connections) shed() bool {
	e := c.idle.Front()
	if e == nil {
		return false
	}
	one, _ := e.Value.(*connection)
	c.cut(one, metrics.CutIdle)
	return true
}

func (c *connections) cut(one *connection, why metrics.Cut) {
	c.remove(one.conn)
	BreakOff(one.conn)
	c.metrics.CutConnection(why)
}

// remove forgets a connection that is known.
func (c *connections) remove(conn net.Conn) {
	one, ok := c.open[conn]
	if !ok {
		return
	}
	delete(c.open, conn)
	if one.idle != nil {
		c.idle.Remove(one.idle)
	}
	if c.hosts[one.host]--; c.hosts[one.host] == 0 {
		delete(c.hosts, one.host)
	}
	c.metrics.OpenConnections(-1)
}

// handle has next answer, and counts the connection as idle at all other times.
func (c *connections) handle(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn := Of(r)
		c.busy(conn)
		defer c.rest(conn)
		next.ServeHTTP(w, r)
	})
}

// busy notes that a request of the connection is being answered.
func (c *connections) busy(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one, ok := c.open[conn]; ok && one.idle != nil {
		c.idle.Remove(one.idle)
		one.idle = nil
	}
	c.lookSoon()
}

// lookSoon has a look at the ways of connections come, with c locked. None comes to a server
// without requests.
func (c *connections) lookSoon() {
	if c.control != nil && !c.looking {
		c.looking = true
		time.AfterFunc(lookEvery, c.look)
	}
}

// look looks at the ways of all connections with a request.
func (c *connections) look() {
	c.mu.Lock()
	busy := make(map[netip.Prefix][]sight)
	for _, one := range c.open {
		if one.idle == nil {
			busy[one.host] = append(busy[one.host], sight{one.conn, &one.way})
		}
	}
	c.mu.Unlock()
	c.control.look(busy)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looking = false
	if len(busy) > 0 {
		c.lookSoon()
	}
}

// rest notes that it has been.
func (c *connections) rest(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one, ok := c.open[conn]; ok && one.idle == nil {
		one.idle = c.idle.PushBack(one)
	}
}

// warn warns at most once a minute, with c locked.
func (c *connections) warn(args ...any) {
	if c.warnings.IsDue(time.Now()) {
		c.logger.Warn("too many connections", append(args, "most", c.most, "hint", RaiseHint)...)
	}
}

// An Occasional says when a warning that could be repeated for each request is due.
type Occasional struct {
	mu   sync.Mutex // guards last
	last time.Time
}

// IsDue reports whether it is, at most once a minute.
func (o *Occasional) IsDue(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.last) < fullEvery {
		return false
	}
	o.last = now
	return true
}

// Exhausted reports whether err says that there are no descriptors left.
func Exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// accepting closes an idle connection when there is no descriptor for a new one.
type accepting struct {
	net.Listener

	connections *connections
}

// Accept waits for the next connection.
func (l accepting) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil && Exhausted(err) {
		c := l.connections
		c.mu.Lock()
		defer c.mu.Unlock()
		c.warn("err", err)
		c.shed()
	}
	return conn, err
}

// errorLog is where [http.Server] writes lines: those about panics are for us, all others
// about what clients do.
type errorLog struct{ logger *slog.Logger }

// Write logs a line.
func (l errorLog) Write(line []byte) (int, error) {
	text := strings.TrimRight(string(line), "\n")
	if strings.Contains(text, "panic serving") {
		l.logger.Error("request panicked", "err", text)
	} else {
		l.logger.Debug("connection failed", "err", text)
	}
	return len(line), nil
}

// HostOf returns the host of an address with a port, which is the zero one for another kind
// of socket.
func HostOf(remote string) netip.Prefix {
	from, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	return wire.HostOf(from.Addr())
}
