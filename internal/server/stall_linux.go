package server

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// stallListener has the kernel break off connections whose peer acknowledges
// none of what is being sent for timeout, also when it says that it is merely
// not reading: TCP_USER_TIMEOUT, see RFC 5482 and tcp(7). A deadline on writes
// would not do, since one call sends a whole shard, however slow the reader is.
type stallListener struct {
	net.Listener

	timeout time.Duration
}

// Accept waits for the next connection.
func (l stallListener) Accept() (net.Conn, error) {
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
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(l.timeout.Milliseconds()))
		})
	}
	return conn, nil
}
