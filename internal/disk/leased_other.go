//go:build !linux

package disk

import "os"

// BeingWritten reports false here, whether or not a process has the file open for writing.
func BeingWritten(*os.File) bool { return false }
