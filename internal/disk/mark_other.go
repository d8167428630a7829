//go:build !linux && !darwin

package disk

import (
	"errors"
	"os"
)

// Mark does nothing here: the error matches [errors.ErrUnsupported].
func Mark(*os.Root) error { return errors.ErrUnsupported }

// IsMarked knows no directory here.
func IsMarked(*os.Root) bool { return false }

func mayMove(*os.Root, string) bool { return true }
