//go:build !linux

package disk

import (
	"errors"
	"os"
)

// Exchange is not supported here: the error matches [errors.ErrUnsupported].
func Exchange(*os.Root, string, string) error { return errors.ErrUnsupported }
