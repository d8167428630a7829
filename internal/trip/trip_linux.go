package trip

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Least returns the least round trip of a connection so far, and false for one that is not of TCP, or has ended. A
// process that waits for the processor does not lengthen it.
func Least(conn net.Conn) (d time.Duration, ok bool) {
	tcp, is := conn.(*net.TCPConn)
	if !is {
		return 0, false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			d, ok = time.Duration(info.Min_rtt)*time.Microsecond, true
		}
	})
	return d, ok && err == nil
}
