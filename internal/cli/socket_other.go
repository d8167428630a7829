//go:build !unix

package cli

import (
	"log/slog"
	"net"
)

// Listen returns what listen does: no service manager of this system hands over sockets.
func Listen(listen func() (net.Listener, error), _ *slog.Logger) (net.Listener, error) {
	return listen()
}
