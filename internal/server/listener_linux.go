package server

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// maxUnsent in bytes is how much of what is sent the kernel holds that it has not begun to
// send. Of 4 to 128 KiB, and
// no limit, this was the fastest on loopback, by an eighth with one reader and by a quarter
// with four and fifty, as what is sent is then still in the processor's caches. And what
// has been written is all but sent: in a swarm it is the slots that say how many are
// served at the same time, and not how much the kernel holds for others, which was worth
// 5 % of the time of 24 nodes.
const maxUnsent = 16 << 10

// listener has the kernel take no more than it can send soon: TCP_NOTSENT_LOWAT; and
// break off connections whose peer acknowledges none of what is being sent for stall,
// also when it says that it is merely not reading: TCP_USER_TIMEOUT, see RFC 5482 and
// tcp(7). A deadline on writes would not do, since one call sends much of a shard,
// however slow the reader is.
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
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn, nil
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		// Errors mean that the peer has gone already, which the server will find out.
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(l.stall.Milliseconds()))
		})
	}
	return conn, nil
}
