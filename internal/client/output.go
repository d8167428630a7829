package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
)

// output is the file that a download is written to, at each shard's place.
type output struct {
	dir     *os.Root
	base    string
	file    *disk.File
	lock    *flock.Flock
	size    int64
	resumed bool           // what an earlier download left is in it
	shared  *relay.Version // what others read of it, or nil

	// writing is held by who writes: file systems let one write to a file at a time, and
	// the others spin on a processor until it is their turn.
	writing sync.Mutex
}

// create opens the temporary neighbour of the file base in dir for what m says, and
// locks it against other downloads to the same place. What an earlier download of the
// same file has left there stays in it, unless afresh is set. The output closes dir, and
// so does an error.
func create(ctx context.Context, dir *os.Root, base string, m shard.Manifest, afresh bool) (*output, error) {
	temp := tempName(base)
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	lock, err := lockFile(ctx, filepath.Join(dir.Name(), temp))
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	file, err := disk.Resume(dir, temp, base)
	if err != nil {
		return nil, errors.Join(err, lock.Close(), dir.Close())
	}
	out := &output{dir: dir, base: base, file: file, lock: lock, size: m.Size}
	if out.resumed, err = prepare(file, dir.Name(), m, afresh); err != nil {
		return nil, errors.Join(err, out.close(out.resumed))
	}
	return out, nil
}

// prepare makes file ready for what m says, and reports whether something of it
// may be there already.
func prepare(file *disk.File, dir string, m shard.Manifest, afresh bool) (resumed bool, err error) {
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	footer := footerOf(m.Digest)
	resumed = !afresh && isOf(file, info.Size(), m, footer)
	if !resumed {
		if err := file.Truncate(0); err != nil {
			return false, err
		}
		if info, err = file.Stat(); err != nil {
			return false, err
		}
	}
	if err := disk.Need(dir, m.Size-disk.Allocated(info)); err != nil {
		return resumed, err
	}
	if err := file.Truncate(m.Size); err != nil {
		return resumed, err
	}
	_, err = file.WriteAt([]byte(footer), footerAt(m.Size))
	return resumed, err
}

// footerOf is what stands behind the bytes of an unfinished file: whose they are
// to become. It is taken off before the file gets its name. What has come is told
// by the holes that are left, so that nothing has to be kept in step with it.
func footerOf(digest shard.Digest) string {
	return fmt.Sprintf("\nunfinished shardcast download of %s\n", digest)
}

// footerAt is where the footer of a file of size bytes stands: not in a block that
// holds bytes of the file, which would not be a hole for it.
func footerAt(size int64) int64 {
	const largest = 1 << 20 // block that a file system deals in
	return (size/largest + 1) * largest
}

// isOf reports whether file, of size bytes, was begun for m. Without a footer it
// was about to get its name, or that is for the digests to say.
func isOf(file io.ReaderAt, size int64, m shard.Manifest, footer string) bool {
	if size == m.Size {
		return size > 0
	}
	buf := make([]byte, len(footer)+1)
	n, _ := file.ReadAt(buf, footerAt(m.Size))
	return string(buf[:n]) == footer
}

// tempSuffix ends the names of unfinished files.
const tempSuffix = ".shardcast-part"

// tempName is what the file base is called until it is whole, so that the same
// download finds it again, and nothing else has that name.
func tempName(base string) string {
	if len(base) > maxName-len(".")-len(tempSuffix) {
		digest := sha256.Sum256([]byte(base))
		base = hex.EncodeToString(digest[:])
	}
	return "." + base + tempSuffix
}

// maxName is how long the name of a file may be, in bytes.
const maxName = 255

// How long a download waits for another one to the same place, and how often it
// looks.
const (
	lockWait  = time.Second
	lockRetry = 20 * time.Millisecond
)

// lockFile makes the file name, if it is missing, and locks it. The lock is good
// only while the file has that name: another download may have finished, and
// renamed it, between opening and locking. One that is locked is waited for until
// ctx ends: who was killed may not be quite dead yet.
func lockFile(ctx context.Context, name string) (*flock.Flock, error) {
	for {
		lock := flock.New(name, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o644))
		ok, err := lock.TryLock()
		if err == nil && !ok {
			select {
			case <-time.After(lockRetry):
				continue
			case <-ctx.Done():
				err = errUnderWay
			}
		}
		if err != nil {
			return nil, errors.Join(err, lock.Close())
		}
		locked, err := lock.Stat()
		if err != nil {
			return nil, errors.Join(err, lock.Close())
		}
		if named, err := os.Stat(name); err == nil && os.SameFile(locked, named) {
			return lock, nil
		}
		if err := lock.Close(); err != nil {
			return nil, err
		}
	}
}

// path is where the file will be.
func (o *output) path() string { return filepath.Join(o.dir.Name(), o.base) }

// commit gives the file its final name.
func (o *output) commit() error {
	// Should it be killed before the end, all of it is there with or without footer.
	if err := o.file.Sync(); err != nil {
		return err
	}
	if err := o.file.Truncate(o.size); err != nil {
		return err
	}
	if err := o.file.Commit(); err != nil {
		return err
	}
	return disk.SyncDir(o.dir, ".")
}

// close ends the use of the file. Unless it was committed, it is left for a later
// download if keep is set, and removed if not. It may be called of none.
func (o *output) close(keep bool) error {
	if o == nil {
		return nil
	}
	end := o.file.Close
	if keep {
		end = o.file.Leave
	}
	return errors.Join(end(), o.lock.Close(), o.dir.Close())
}

// Open opens the place of s.
func (o *output) Open(s shard.Shard) (fetch.Place, error) {
	p := place{io.NewSectionReader(o.file, s.Offset, s.Size), o, s, nil}
	if o.shared != nil {
		p.shared = o.shared.Shard(s.Number)
		p.shared.Begin()
	}
	return p, nil
}

// Wanted is for those who read it while it comes: who waits for the file waits for all
// of it.
func (o *output) Wanted() <-chan int {
	if o.shared == nil {
		return nil
	}
	return o.shared.Wanted()
}

// Asked is about those, likewise.
func (o *output) Asked(number int) bool { return o.shared != nil && o.shared.Shard(number).Asked() }

// sharedAs returns what others read of it, or nil. It may be called of none.
func (o *output) sharedAs() *relay.Version {
	if o == nil {
		return nil
	}
	return o.shared
}

// place is where one shard goes.
type place struct {
	io.ReaderAt

	out    *output
	shard  shard.Shard
	shared *relay.Shard // what others read of it, or nil
}

// Written returns what an earlier download may have left there.
func (p place) Written() ([]disk.Range, error) {
	if !p.out.resumed {
		return nil, nil
	}
	return disk.Written(p.out.file.File, p.shard.Offset, p.shard.Offset+p.shard.Size)
}

// flushed is how much of the file the disk is told to begin with at a time, in bytes.
const flushed = 8 << 20

// WriteAt has the disk begin with what lies before, for it to have little left to do in
// the end.
func (p place) WriteAt(data []byte, offset int64) (int, error) {
	offset += p.shard.Offset
	p.out.writing.Lock()
	n, err := p.out.file.WriteAt(data, offset)
	p.out.writing.Unlock()
	if err == nil && p.shared != nil {
		at := offset - p.shard.Offset
		p.shared.Wrote(disk.Range{From: at, To: at + int64(n)})
	}
	if end := (offset + int64(n)) / flushed * flushed; offset < end {
		_ = p.out.file.Flush(end-flushed, flushed) // see Commit
	}
	return n, err
}

// Forget has those who read what was wrong broken off.
func (p place) Forget() {
	if p.shared != nil {
		p.shared.Forget()
	}
}

// From notes whether who sends it has all of it.
func (p place) From(whole bool) {
	if p.shared != nil {
		p.shared.From(whole)
	}
}

// Commit has the disk begin with what is left of the shard.
func (p place) Commit() error {
	// Where the file system cannot do that, the file's own commit does it all.
	_ = p.out.file.Flush(p.shard.Offset, p.shard.Size)
	if p.shared != nil {
		p.shared.Verify()
	}
	return nil
}

// Close has nothing to give back.
func (p place) Close() error { return nil }

// errUnderWay is for a second download to one place.
var errUnderWay = errors.New("another download to it is under way")
