//go:build !linux

package disk

import "os"

// Shares reports false: [Copy] shares no blocks here.
func Shares(*os.Root) bool { return false }

func canShare(string, *os.File, int64, int64) bool { return false }
