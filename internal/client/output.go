package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
)

// output is the partial file of a download, and the [fetch.Sink] of its shards.
type output struct {
	dir     *os.Root
	base    string     // the final name
	file    *disk.File // locked
	size    int64
	resumed bool           // an earlier download's bytes may be in it
	placed  bool           // it has the final name
	shared  *relay.Version // for peers to read, or nil

	// writing is held for each write: file systems let one write to a file at a time, and
	// the others spin on a processor until their turn.
	writing sync.Mutex
}

// lockWait is how long a download waits for another one to the same path. The process
// of that one may have been killed and not have ended yet.
const lockWait = time.Second

// errInUse is the error for a second download to one path.
var errInUse = errors.New("another download to it is under way")

// create opens the partial file of base in dir for m, and locks it against other downloads to
// the same path. Bytes of an earlier download of the same version stay in it, unless afresh
// is set. The output closes dir, and so does an error.
func create(ctx context.Context, dir *os.Root, base string, m shard.Manifest, afresh bool) (*output, error) {
	limited, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	file, err := disk.Resume(limited, dir, partName(base), base)
	if errors.Is(err, disk.ErrLocked) {
		err = errInUse
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	out := &output{dir: dir, base: base, file: file, size: m.Size}
	if out.resumed, err = prepare(file, dir.Name(), m, afresh); err != nil {
		return nil, errors.Join(err, out.close(out.resumed))
	}
	return out, nil
}

// path is the final path of the file.
func (o *output) path() string { return filepath.Join(o.dir.Name(), o.base) }

// partial is the path of the partial file.
func (o *output) partial() string { return filepath.Join(o.dir.Name(), partName(o.base)) }

// commit gives the file its final name.
func (o *output) commit() error {
	// After this a kill loses nothing: all bytes are on the disk, with the footer or without.
	if err := o.file.Sync(); err != nil {
		return err
	}
	if err := o.file.Truncate(o.size); err != nil {
		return err
	}
	if err := o.file.Commit(); err != nil {
		return err
	}
	o.placed = true
	if err := disk.SyncDir(o.dir, "."); err != nil {
		return fmt.Errorf("the file is whole, but its name may not survive a crash: %w", err)
	}
	return nil
}

// copyChunk in bytes is copied to a writer between two looks at the context.
const copyChunk = 1 << 20

// copyTo copies the bytes of the version to w, until ctx ends.
func (o *output) copyTo(ctx context.Context, w io.Writer) error {
	whole := io.NewSectionReader(o.file, 0, o.size)
	for ctx.Err() == nil {
		if _, err := io.CopyN(w, whole, copyChunk); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// close ends the use of the file. If it has no final name, the partial file is kept for a
// later download if keep is set, and removed otherwise.
func (o *output) close(keep bool) error {
	end := o.file.Close
	if keep {
		end = o.file.Leave
	}
	return errors.Join(end(), o.dir.Close())
}

// Open opens the place of s.
func (o *output) Open(s shard.Shard) (fetch.Place, error) {
	p := place{io.NewSectionReader(o.file, s.Offset, s.Size), o, s}
	if o.shared != nil {
		return o.shared.Tee(s.Number, p), nil
	}
	return p, nil
}

// place is the place of one shard in the file.
type place struct {
	io.ReaderAt

	out   *output
	shard shard.Shard
}

// Written returns the ranges that an earlier download may have written.
func (p place) Written() ([]disk.Range, error) {
	if !p.out.resumed {
		return nil, nil
	}
	return disk.Written(p.out.file.File, p.shard.Offset, p.shard.Offset+p.shard.Size)
}

// flushed in bytes is the unit in which the system is asked to write to the disk, so that
// little is left for the sync at the end.
const flushed = 8 << 20

// WriteAt writes to the file, and has the system begin to write each full unit to the disk.
func (p place) WriteAt(data []byte, offset int64) (int, error) {
	offset += p.shard.Offset
	p.out.writing.Lock()
	n, err := p.out.file.WriteAt(data, offset)
	p.out.writing.Unlock()
	if end := (offset + int64(n)) / flushed * flushed; offset < end {
		_ = disk.Flush(p.out.file.File, end-flushed, flushed) // see Commit
	}
	return n, err
}

// Commit has the system begin to write the rest of the shard to the disk.
func (p place) Commit() error {
	// Where the file system has no such request, the file's own commit syncs it all.
	_ = disk.Flush(p.out.file.File, p.shard.Offset, p.shard.Size)
	return nil
}

// Close does nothing: the output closes the file.
func (p place) Close() error { return nil }
