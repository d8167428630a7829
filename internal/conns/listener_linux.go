package conns

import (
	"crypto/tls"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// hold bounds the unsent bytes of a connection from now on: TCP_NOTSENT_LOWAT, see tcp(7).
func hold(conn net.Conn, unsent int) { setOption(conn, unix.TCP_NOTSENT_LOWAT, unsent) }

// setOption sets an option of TCP for a connection. An error means that the client has gone
// already, which the server will find out.
func setOption(conn net.Conn, option, value int) {
	tcp, ok := below(conn).(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, value) })
	}
}

// listener has the kernel break off connections whose client acknowledges no byte for stall,
// also when its window is closed: TCP_USER_TIMEOUT, see RFC 5482 and tcp(7). A deadline on
// writes would not do, since one call sends much of a shard, however slow the reader is.
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

// IsHalfClosed reports whether the client has closed its side of a connection, as far as can
// be known, and not all of it: the state CLOSE_WAIT of RFC 9293, section 3.3.2. In one of TLS
// it may say so, and leave that of TCP established (RFC 8446, section 6.1).
func IsHalfClosed(conn net.Conn) (half bool) {
	const established, closeWait = 1, 8 // TCP_ESTABLISHED and TCP_CLOSE_WAIT of net/tcp_states.h
	_, secure := conn.(*tls.Conn)
	tcp, ok := below(conn).(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		half = err == nil && (info.State == closeWait || secure && info.State == established)
	})
	return half && err == nil
}

// TakenBy returns how much the client has acknowledged of a connection.
func TakenBy(conn net.Conn) (t Taken) {
	tcp, ok := below(conn).(*net.TCPConn)
	if !ok {
		return t
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
				t = Taken{Bytes: int64(info.Bytes_acked), More: info.Notsent_bytes > 0 || info.Unacked > 0}
			}
		})
	}
	return t
}
