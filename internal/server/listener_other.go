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
