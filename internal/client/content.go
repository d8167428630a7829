package client

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

// content is where the bytes of a version arrive: a file, or a directory of files. Offsets
// are those in the version's stream.
type content interface {
	io.ReaderAt
	io.WriterAt

	// CopyAt is WriteAt with size bytes of src from the offset from on, see [disk.Copy].
	CopyAt(src *os.File, from, offset, size int64) error

	// begin makes the content ready for its bytes. The error matches [disk.ErrNoSpace] if there is no
	// room for those that are not there, less the shared ones, which take none.
	begin(shared int64) error

	// shared returns how many of the bytes that CopyAt copies take no room, see [disk.Shared].
	shared(src *os.File, from, offset, size int64) int64

	// written returns the parts between two offsets that an earlier download may have
	// written, counted from the first one.
	written(from, to int64) ([]disk.Range, error)

	// check returns nil if a part, which is right, agrees with the list of a tree's files.
	// Otherwise the error matches [shard.ErrIntegrity].
	check(offset, size int64) error

	// flush has the system begin to write a part to the disk.
	flush(offset, size int64)

	// place gives the content its final name, when all of it is on the disk.
	place() error

	// end ends the use of the content. One without a final name is kept for a later download
	// if keep is set, and removed otherwise.
	end(keep bool) error

	// share returns a reader of the bytes that is closed by itself.
	share() (reader, error)
}

// reader reads the bytes of a content, also after its end.
type reader interface {
	io.ReaderAt
	io.Closer
}

// fileContent is the partial file of a version.
type fileContent struct {
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
) (*fileContent, bool, error) {
	file, err := disk.Resume(ctx, dir, partName(base), base)
	if err != nil {
		return nil, false, err
	}
	resumed, err := prepare(file, m, afresh)
	f := &fileContent{dir: dir, base: base, file: file, size: m.Size, footer: footerOf(m.Digest)}
	if err != nil {
		return nil, resumed, errors.Join(err, f.end(resumed))
	}
	return f, resumed, nil
}

func (f *fileContent) begin(shared int64) error {
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

func (f *fileContent) shared(src *os.File, from, offset, size int64) int64 {
	return disk.Shared(f.dir, offset, src, from, size)
}

// ReadAt reads from the file.
func (f *fileContent) ReadAt(p []byte, offset int64) (int, error) { return f.file.ReadAt(p, offset) }

// flushed in bytes is the unit in which the system is asked to write to the disk, so that
// little is left for the sync at the end.
const flushed = 8 << 20

// WriteAt writes to the file, and has the system begin to write each full unit to the disk.
func (f *fileContent) WriteAt(p []byte, offset int64) (int, error) {
	f.writing.Lock()
	n, err := f.file.WriteAt(p, offset)
	f.writing.Unlock()
	f.wrote(offset, int64(n))
	return n, err
}

// wrote has the system begin to write the full units of a part to the disk.
func (f *fileContent) wrote(offset, size int64) {
	if from, end := offset/flushed*flushed, (offset+size)/flushed*flushed; offset < end {
		f.flush(from, end-from)
	}
}

// CopyAt copies to the file.
func (f *fileContent) CopyAt(src *os.File, from, offset, size int64) error {
	f.writing.Lock()
	err := disk.Copy(f.file.File, offset, src, from, size)
	f.writing.Unlock()
	f.wrote(offset, size)
	return err
}

func (f *fileContent) written(from, to int64) ([]disk.Range, error) {
	return disk.Written(f.file.File, from, to)
}

func (f *fileContent) check(int64, int64) error { return nil }

func (f *fileContent) flush(offset, size int64) {
	// Where the file system has no such request, the file's own commit syncs it all.
	_ = disk.Flush(f.file.File, offset, size)
}

func (f *fileContent) place() error {
	// After this a kill loses nothing: all bytes are on the disk, with the footer or without.
	if err := f.file.Sync(); err != nil {
		return err
	}
	if err := f.file.Truncate(f.size); err != nil {
		return err
	}
	return f.file.Commit()
}

func (f *fileContent) end(keep bool) error {
	if keep {
		return f.file.Leave()
	}
	return f.file.Close()
}

func (f *fileContent) share() (reader, error) {
	file, err := disk.OpenRegular(f.dir, partName(f.base))
	if err != nil {
		return nil, err
	}
	return file, nil
}
