//go:build !linux

package disk

import "os"

// Flush does nothing here: the system decides when to write.
func Flush(_ *os.File, _, _ int64) error { return nil }
