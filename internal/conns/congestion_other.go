//go:build !linux

package conns

import (
	"errors"
	"fmt"
	"net"
)

// setCongestion fails: this system has no option for it.
func setCongestion(_ any, name string) error {
	return fmt.Errorf("set the congestion control %s: %w", name, errors.ErrUnsupported)
}

// read returns nothing: this system does not say.
func read(net.Conn) (reading, bool) { return reading{}, false }
