//go:build !linux && !darwin && !freebsd

package disk

import (
	"errors"
	"os"
)

// nextData does not know holes here.
func nextData(*os.File, int64, int64) (Range, error) { return Range{}, errors.ErrUnsupported }

func blockSize(os.FileInfo) int64 { return block }

// Allocated returns the disk space of a file, in bytes.
func Allocated(info os.FileInfo) int64 { return info.Size() }

// Inode returns zero: a file has no number here that differs from those of files that had
// its name before.
func Inode(os.FileInfo) uint64 { return 0 }
