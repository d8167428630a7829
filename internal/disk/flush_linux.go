package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// Flush has the system begin to write size bytes from offset to the disk, without waiting for
// it, so that little is left for a sync. A size of 0 means up to the end. See sync_file_range(2).
func Flush(f *os.File, offset, size int64) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var flushed error
	err = raw.Control(func(fd uintptr) {
		flushed = unix.SyncFileRange(int(fd), offset, size, unix.SYNC_FILE_RANGE_WRITE)
	})
	if err != nil {
		return err
	}
	return flushed
}
