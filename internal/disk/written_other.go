//go:build !linux && !darwin && !freebsd

package disk

import (
	"errors"
	"os"
)

// nextData cannot tell holes here.
func nextData(*os.File, int64, int64) (Range, error) { return Range{}, errors.ErrUnsupported }

func blockSize(os.FileInfo) int64 { return block }

// Allocated returns how many bytes of the disk a file takes.
func Allocated(info os.FileInfo) int64 { return info.Size() }

// Inode returns zero, since there is no number here by which a file is told from
// those that had its name before.
func Inode(os.FileInfo) uint64 { return 0 }
