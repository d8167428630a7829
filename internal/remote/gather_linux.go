package remote

import (
	"net"

	"golang.org/x/sys/unix"
)

// lowWater has the kernel wake the reader of a connection when it has so many bytes:
// SO_RCVLOWAT, see socket(7).
func lowWater(conn *net.TCPConn, bytes int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, bytes)
	})
	if err != nil {
		return err
	}
	return failed
}
