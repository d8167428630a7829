//go:build !linux

package server

import (
	"net"
	"time"
)

// listener leaves what is held to be sent, and stalled connections, to TCP's own limits:
// this system has no options for both.
type listener struct {
	net.Listener

	stall time.Duration
}
