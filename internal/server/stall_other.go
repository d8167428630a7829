//go:build !linux

package server

import (
	"net"
	"time"
)

// stallListener leaves stalled connections to TCP's own retransmission and
// keep-alive limits: this system has no option for it.
type stallListener struct {
	net.Listener

	timeout time.Duration
}
