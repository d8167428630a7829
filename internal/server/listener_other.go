//go:build !linux

package server

import (
	"net"
	"time"
)

// holdLittle does nothing: this system has no option for it.
func holdLittle(net.Conn) {}

// listener leaves stalled connections to TCP's own retransmission and
// keep-alive limits: this system has no option for it.
type listener struct {
	net.Listener

	stall time.Duration
}

// isHalfClosed returns true: this system does not say how much a client has closed, and what
// is sent to one that has gone fails.
func isHalfClosed(net.Conn) bool { return true }

// takenBy returns nothing: this system does not say how much a client has taken.
func takenBy(net.Conn) taken { return taken{} }
