//go:build linux || darwin || freebsd

package disk

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// nextData returns the first part of f from at up to end that is no hole, or an empty one at
// end.
func nextData(f *os.File, at, end int64) (Range, error) {
	data, err := f.Seek(at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) || err == nil && data >= end {
		return Range{end, end}, nil // all of the rest is a hole
	}
	if errors.Is(err, unix.EINVAL) {
		return Range{}, errors.ErrUnsupported
	}
	if err != nil {
		return Range{}, err
	}
	hole, err := f.Seek(data, unix.SEEK_HOLE)
	if err != nil {
		return Range{}, err
	}
	return Range{data, min(hole, end)}, nil
}

// blockSize is the unit of the file system's holes.
func blockSize(info os.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return max(block, int64(stat.Blksize))
	}
	return block
}

// Allocated returns the disk space of a file, in bytes.
func Allocated(info os.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Blocks * 512 // always 512, stat(2)
	}
	return info.Size()
}

// Inode returns the file's number, which differs from those of files that had its name
// before, and zero where there is none.
func Inode(info os.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Ino
	}
	return 0
}
