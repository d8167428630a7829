//go:build !linux

package conns

import (
	"net"
	"time"
)

// hold does nothing: this system has no option for it.
func hold(net.Conn, int) {}

// listener leaves stalled connections to TCP's own retransmission and
// keep-alive limits: this system has no option for it.
type listener struct {
	net.Listener

	stall time.Duration
}

// IsHalfClosed returns true: this system does not say how much a client has closed, and what
// is sent to one that has gone fails.
func IsHalfClosed(net.Conn) bool { return true }

// TakenBy returns nothing: this system does not say how much a client has taken.
func TakenBy(net.Conn) Taken { return Taken{} }
