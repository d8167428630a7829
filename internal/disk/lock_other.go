//go:build !darwin && !dragonfly && !freebsd && !linux && !netbsd && !openbsd && !windows

package disk

import (
	"errors"
	"os"
)

// tryLock knows no locks here.
func tryLock(*os.File, bool) error { return errors.ErrUnsupported }
