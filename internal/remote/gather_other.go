//go:build !linux

package remote

import (
	"errors"
	"net"
)

// lowWater fails: other systems do not wake a reader when a connection ends before.
func lowWater(*net.TCPConn, int) error { return errors.ErrUnsupported }
