package remote

import (
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"
)

const (
	// mostGathered in bytes is the most that the kernel gathers of an answer before it wakes
	// the reader. Without that a shard at 100 Mbit/s in ten connections wakes it for each packet.
	mostGathered = 64 << 10

	// gatherFor is how long that takes, and a reader of an arriving shard waits longer.
	gatherFor = 25 * time.Millisecond

	// gatherEvery is the time over which an answer's rate is taken, and also how long the kernel
	// keeps what has come when nothing more does.
	gatherEvery = 200 * time.Millisecond

	// page in bytes is the step of what is gathered, and less than a packet's content where the
	// kernel joins packets.
	page = 4096
)

// A gathering has the kernel wake the reader of an answer less often: when as much has come as
// comes in [gatherFor] at the rate of the answer. The end of an answer is not gathered, so the
// connection is as it was before when the next one comes. The zero value does nothing.
type gathering struct {
	conn *net.TCPConn // or nil
	left int64        // of the answer, in bytes
	came int64        // since at
	at   time.Time
	set  *atomic.Int64 // what the kernel gathers; 1 is for nothing
	late *time.Timer   // ends it, for the kernel has kept something for long
}

// gather begins for an answer of a size on a connection.
func gather(conn net.Conn, size int64) gathering {
	if over, ok := conn.(*tls.Conn); ok {
		conn = over.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok || size < 4*mostGathered {
		return gathering{}
	}
	g := gathering{conn: tcp, left: size, at: time.Now(), set: new(atomic.Int64)}
	g.set.Store(1)
	return g
}

// read notes that so many bytes have come.
func (g *gathering) read(n int) {
	if g.conn == nil {
		return
	}
	g.left, g.came = g.left-int64(n), g.came+int64(n)
	if g.left < 2*mostGathered { // TLS, and the buffer of the header, may have read some of it ahead
		g.end()
		return
	}
	took := time.Since(g.at)
	if took >= gatherEvery {
		g.change(gathered(float64(g.came) / took.Seconds()))
		g.at, g.came = time.Now(), 0
	} else if g.late != nil {
		g.late.Reset(gatherEvery)
	}
}

// change has the kernel gather so many bytes.
func (g *gathering) change(bytes int64) {
	if g.late != nil {
		g.late.Stop()
	}
	if g.set.Swap(bytes) != bytes && lowWater(g.conn, int(bytes)) != nil {
		g.conn = nil
		return
	}
	if bytes == 1 {
		return
	}
	if g.late == nil {
		conn, set := g.conn, g.set
		g.late = time.AfterFunc(gatherEvery, func() {
			set.Store(1)
			_ = lowWater(conn, 1) // it wakes the reader, if there is anything to read
		})
	} else {
		g.late.Reset(gatherEvery)
	}
}

// end has the kernel gather nothing more.
func (g *gathering) end() {
	if g.conn != nil {
		g.change(1)
		g.conn = nil
	}
}

// gathered returns how many bytes to gather at a rate in bytes per second.
func gathered(rate float64) int64 {
	n := min(int64(rate*gatherFor.Seconds()), mostGathered)
	if n < 2*page {
		return 1
	}
	return n / page * page
}
