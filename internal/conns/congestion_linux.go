package conns

import (
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// setCongestion gives a connection, or all of a listener, a congestion control of the kernel's:
// TCP_CONGESTION, see tcp(7).
func setCongestion(socket any, name string) error {
	if conn, ok := socket.(net.Conn); ok {
		socket = below(conn)
	}
	over, ok := socket.(syscall.Conn)
	if !ok {
		return nil // it is of no kernel
	}
	raw, err := over.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, name)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("set the congestion control %s: %w", name, err)
	}
	return nil
}

// read takes a reading of a connection, unless it is none of TCP or has BBR already.
func read(conn net.Conn) (r reading, ok bool) {
	tcp, is := below(conn).(*net.TCPConn)
	if !is {
		return r, false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return r, false
	}
	err = raw.Control(func(fd uintptr) {
		name, err := unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		if err != nil || name == lossyControl {
			return
		}
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		micros := func(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }
		r, ok = reading{micros(info.Rtt), micros(info.Min_rtt), info.Total_retrans}, true
	})
	return r, ok && err == nil
}
