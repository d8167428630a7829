//go:build !linux

package trip

import (
	"net"
	"time"
)

// Least returns false: this system does not say.
func Least(net.Conn) (time.Duration, bool) { return 0, false }
