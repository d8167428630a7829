//go:build unix

package cli

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// Listen returns the socket that the service manager which started this process has
// handed to it (sd_listen_fds(3)), and logs which; without one it returns what listen
// does. What is handed over has to be one TCP socket that listens; the error says what
// it is instead.
func Listen(listen func() (net.Listener, error), logger *slog.Logger) (net.Listener, error) {
	// What is meant for another process was handed to a parent of this one.
	ours := os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid())
	count := os.Getenv("LISTEN_FDS")
	files := activation.Files(true)
	switch {
	case !ours:
		return listen()
	case len(files) != 1:
		return nil, fmt.Errorf("the service manager hands over %q sockets (LISTEN_FDS), and one is listened on: have one ListenStream= in the socket unit", count)
	}
	name := files[0].Name()
	ln := listener(files[0])
	if ln == nil {
		return nil, fmt.Errorf("the service manager hands over %s, which is no TCP socket that listens: have a ListenStream= with a port in the socket unit, and no Accept=yes", name)
	}
	logger.Info("socket handed over", "name", name, "addr", ln.Addr().String())
	return ln, nil
}

// listener is the TCP socket f, or nil if f is none that listens. It closes f.
func listener(f *os.File) net.Listener {
	ln, err := net.FileListener(f)
	_ = f.Close() // which the listener has a copy of
	if err != nil {
		return nil
	}
	if tcp, ok := ln.(*net.TCPListener); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			listens := 0
			_ = raw.Control(func(fd uintptr) {
				listens, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
			})
			if listens != 0 {
				return ln
			}
		}
	}
	_ = ln.Close()
	return nil
}
