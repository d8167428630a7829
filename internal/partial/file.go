package partial

import (
	"context"
	"errors"
	"os"
	"sync"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

// file is the partial file of a version.
type file struct {
	dir  *os.Root
	base string     // the final name
	file *disk.File // locked
	size int64

	footer string // behind the bytes, until all are there

	// writing is held for each write: file systems let one write to a file at a time, and
	// the others spin on a processor until their turn.
	writing sync.Mutex
}

// openFile opens the partial file of base in dir for m, and reports whether bytes of an
// earlier download are in it, also with an error.
func openFile(
	ctx context.Context, dir *os.Root, base string, m shard.Manifest, afresh bool,
) (*file, bool, error) {
	part, err := disk.Resume(ctx, dir, Name(base), base)
	if err != nil {
		return nil, false, err
	}
	resumed, err := prepare(part, m, afresh)
	f := &file{dir: dir, base: base, file: part, size: m.Size, footer: footerOf(m.Digest)}
	if err != nil {
		return nil, resumed, errors.Join(err, f.End(resumed))
	}
	return f, resumed, nil
}

// Begin makes room for the bytes, and writes the footer behind them.
func (f *file) Begin(shared int64) error {
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	if err := disk.Need(f.dir.Name(), f.size-disk.Allocated(info)-shared); err != nil {
		return err
	}
	if err := f.file.Truncate(f.size); err != nil {
		return err
	}
	_, err = f.file.WriteAt([]byte(f.footer), footerAt(f.size))
	return err
}

// Shared asks the file system of the directory.
func (f *file) Shared(src *os.File, from, offset, size int64) int64 {
	return disk.Shared(f.dir, offset, src, from, size)
}

// ReadAt reads from the file.
func (f *file) ReadAt(p []byte, offset int64) (int, error) { return f.file.ReadAt(p, offset) }

// flushed in bytes is the unit in which the system is asked to write to the disk, so that
// little is left for the sync at the end.
const flushed = 8 << 20

// WriteAt writes to the file, and has the system begin to write each full unit to the disk.
func (f *file) WriteAt(p []byte, offset int64) (int, error) {
	f.writing.Lock()
	n, err := f.file.WriteAt(p, offset)
	f.writing.Unlock()
	f.wrote(offset, int64(n))
	return n, err
}

// wrote has the system begin to write the full units of a part to the disk.
func (f *file) wrote(offset, size int64) {
	if from, end := offset/flushed*flushed, (offset+size)/flushed*flushed; offset < end {
		f.Flush(from, end-from)
	}
}

// CopyAt copies to the file.
func (f *file) CopyAt(src *os.File, from, offset, size int64) error {
	f.writing.Lock()
	err := disk.Copy(f.file.File, offset, src, from, size)
	f.writing.Unlock()
	f.wrote(offset, size)
	return err
}

// Written returns what is no hole.
func (f *file) Written(from, to int64) ([]disk.Range, error) {
	return disk.Written(f.file.File, from, to)
}

// Check returns nil: a file has no list.
func (f *file) Check(int64, int64) error { return nil }

// Flush has the system begin to write a part to the disk.
func (f *file) Flush(offset, size int64) {
	// Where the file system has no such request, the file's own commit syncs it all.
	_ = disk.Flush(f.file.File, offset, size)
}

// Place gives the file its final name.
func (f *file) Place() error {
	// After this a kill loses nothing: all bytes are on the disk, with the footer or without.
	if err := f.file.Sync(); err != nil {
		return err
	}
	if err := f.file.Truncate(f.size); err != nil {
		return err
	}
	return f.file.Commit()
}

// End ends the use of the file.
func (f *file) End(keep bool) error {
	if keep {
		return f.file.Leave()
	}
	return f.file.Close()
}

// Share opens the file once more.
func (f *file) Share() (Reader, error) {
	part, err := disk.OpenRegular(f.dir, Name(f.base))
	if err != nil {
		return nil, err
	}
	return part, nil
}
