//go:build !linux

package disk

import "os"

// copyInSystem copies nothing: there is no such call here.
func copyInSystem(_ *os.File, _ int64, _ *os.File, _, _ int64) (done int64, err error) { return 0, nil }
