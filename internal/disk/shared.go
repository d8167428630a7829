package disk

import "os"

// Shared returns how many of the bytes that [Copy] copies from src to the offset to of a file in dir
// take no room, since both files have their blocks from then on. It tries that with one block, in a
// file without a name.
func Shared(dir *os.Root, to int64, src *os.File, from, size int64) int64 {
	info, err := dir.Stat(".")
	if err != nil {
		return 0
	}
	unit := blockSize(info)
	before, whole := blocksOf(unit, to, from, size)
	if whole == 0 || !canShare(dir.Name(), src, from+before, unit) {
		return 0
	}
	return whole
}

// blocksOf returns how many bytes of a copy as by [Copy], in a file system whose blocks have unit
// bytes, are before the first whole block, and how many are in whole blocks: files share no others.
func blocksOf(unit, to, from, size int64) (before, whole int64) {
	if (to-from)%unit != 0 {
		return size, 0
	}
	before = min(size, (unit-to%unit)%unit)
	return before, (size - before) / unit * unit
}
