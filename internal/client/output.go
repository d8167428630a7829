package client

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

// output is the file that a download is written to, at each shard's place.
type output struct {
	dir  *os.Root
	file *disk.File
	lock *flock.Flock

	mu   sync.Mutex // guards kept
	kept []bool     // by shard number - 1
}

// create makes the temporary neighbour of path, and locks it against other
// downloads to the same place.
func create(path string, m shard.Manifest) (*output, error) {
	dir, err := openDir(path)
	if err != nil {
		return nil, err
	}
	out, err := createIn(dir, path, m)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return out, nil
}

func createIn(dir *os.Root, path string, m shard.Manifest) (*output, error) {
	base := filepath.Base(path)
	temp := tempName(base)
	lock, err := lockFile(filepath.Join(dir.Name(), temp))
	if err != nil {
		return nil, err
	}
	file, err := disk.Create(dir, temp, base)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	out := &output{dir: dir, file: file, lock: lock, kept: make([]bool, len(m.Shards))}
	// Only now, when what a killed download had left there is gone.
	err = disk.Need(dir.Name(), m.Size)
	if err == nil {
		err = file.Truncate(m.Size)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close(), lock.Close())
	}
	return out, nil
}

// tempName is what the file base is called until it is whole, so that the same
// download finds it again, and nothing else has that name.
func tempName(base string) string {
	const suffix = ".shardcast-part"
	if len(base) > maxName-len(".")-len(suffix) {
		digest := sha256.Sum256([]byte(base))
		base = hex.EncodeToString(digest[:])
	}
	return "." + base + suffix
}

// maxName is how long the name of a file may be, in bytes.
const maxName = 255

// lockFile makes the file name, if it is missing, and locks it. The lock is good
// only while the file has that name: another download may have finished, and
// renamed it, between opening and locking.
func lockFile(name string) (*flock.Flock, error) {
	for {
		lock := flock.New(name, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o644))
		ok, err := lock.TryLock()
		if err == nil && !ok {
			err = errors.New("another download to it is under way")
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

// commit gives the file its final name.
func (o *output) commit() error {
	if err := o.file.Commit(); err != nil {
		return err
	}
	return disk.SyncDir(o.dir, ".")
}

// close removes the file unless it was committed. It may be called of none.
func (o *output) close() error {
	if o == nil {
		return nil
	}
	return errors.Join(o.file.Close(), o.lock.Close(), o.dir.Close())
}

// Open reads the place of s.
func (o *output) Open(s shard.Shard) (io.ReadCloser, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.kept[s.Number-1] {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(io.NewSectionReader(o.file, s.Offset, s.Size)), nil
}

// Create writes to the place of s.
func (o *output) Create(s shard.Shard) (shard.Writer, error) {
	return &place{OffsetWriter: io.NewOffsetWriter(o.file, s.Offset), out: o, shard: s}, nil
}

// place is where one shard goes. The fetcher never writes more than it has room
// for.
type place struct {
	*io.OffsetWriter

	out   *output
	shard shard.Shard
}

// Commit notes that the shard is right, and has the disk begin with it.
func (p *place) Commit() error {
	// Where the file system cannot do that, the file's own commit does it all.
	_ = p.out.file.Flush(p.shard.Offset, p.shard.Size)
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	p.out.kept[p.shard.Number-1] = true
	return nil
}

// Close has nothing to give back.
func (p *place) Close() error { return nil }
