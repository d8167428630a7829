package server

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// maxUnsent in bytes is how much the kernel holds of what it has not begun to send, for a node
// of a swarm, and for all in a crowd. Without that it is up to 4 MB. In a swarm what has been
// written is all but sent then, or it would not be the slots that say how many are served at
// the same time: that was worth 5 % of the time of 24 nodes. In a crowd a thousand readers
// that stand still would have it hold 2 GB, at which Linux slows down every connection of
// the machine to some 100 kB/s (tcp_mem, see tcp(7)). Others have no such bound: with ten and
// with a hundred readers it doubles what a byte costs the processor.
const maxUnsent = 16 << 10

// holdLittle has the kernel take no more from now on than it can send soon:
// TCP_NOTSENT_LOWAT, see tcp(7).
func holdLittle(conn net.Conn) {
	setOption(conn, unix.TCP_NOTSENT_LOWAT, maxUnsent)
}

// setOption sets one of TCP's for a connection. Errors mean that the peer has gone already,
// which the server will find out.
func setOption(conn net.Conn, option, value int) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, value) })
	}
}

// listener has the kernel break off connections whose peer acknowledges none of what is being
// sent for stall, also when it says that it is merely not reading: TCP_USER_TIMEOUT, see
// RFC 5482 and tcp(7). A deadline on writes would not do, since one call sends much of a
// shard, however slow the reader is.
type listener struct {
	net.Listener

	stall time.Duration
}

// Accept waits for the next connection.
func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	setOption(conn, unix.TCP_USER_TIMEOUT, int(l.stall.Milliseconds()))
	return conn, nil
}
