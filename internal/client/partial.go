package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

// PartSuffix ends the names of partial files.
const PartSuffix = ".shardcast-part"

// MaxName is the longest name of a file, in bytes, on the file systems in use.
const MaxName = 255

// partName is the name of the partial file of base. It follows from base, so that the next
// download to the same path finds the file.
func partName(base string) string {
	if len(base) > MaxName-len(".")-len(PartSuffix) {
		digest := sha256.Sum256([]byte(base))
		base = hex.EncodeToString(digest[:])
	}
	return "." + base + PartSuffix
}

// prepare makes the partial file, in the directory dir, ready for m, and reports whether some
// of m's bytes may be in it already.
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

// footerOf is the text behind the bytes of a partial file. It names the version by its
// digest, and is cut off before the file takes its final name.
func footerOf(digest shard.Digest) string {
	return fmt.Sprintf("\nunfinished shardcast download of %s\n", digest)
}

// footerAt is the footer's offset in the partial file of size bytes: beyond the last block
// that holds bytes of the version, since a block with the footer in it is no hole.
func footerAt(size int64) int64 {
	const largest = 1 << 20 // block of a file system
	return (size/largest + 1) * largest
}

// isOf reports whether the partial file, of size bytes, was begun for m. One without a footer
// was about to take its final name, if its size is m's: the digests decide.
func isOf(file io.ReaderAt, size int64, m shard.Manifest, footer string) bool {
	if size == m.Size {
		return size > 0
	}
	buf := make([]byte, len(footer)+1)
	n, _ := file.ReadAt(buf, footerAt(m.Size))
	return string(buf[:n]) == footer
}

// abandoned is the age from which a partial file is removed by a download of another file.
const abandoned = 24 * time.Hour

// sweep removes abandoned partial files from dir, except that of base. A partial file that
// cannot be removed stays.
func (c *Client) sweep(dir, base string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		name := entry.Name()
		info, err := entry.Info()
		if err != nil || name == partName(base) || name[0] != '.' || !strings.HasSuffix(name, PartSuffix) ||
			!info.Mode().IsRegular() || time.Since(info.ModTime()) < abandoned {
			continue
		}
		if name = filepath.Join(dir, name); removeUnused(name) == nil {
			c.logger.Info("abandoned download removed", "file", name)
		}
	}
}

// RemovePartial removes the partial file of a download to the file base in dir, if there is
// one. It fails while a download uses the partial file.
func RemovePartial(dir *os.Root, base string) error {
	info, err := dir.Lstat(partName(base))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return nil // no download made it
	}
	return removeUnused(filepath.Join(dir.Name(), partName(base)))
}

// removeUnused removes the partial file name, unless a download uses it.
func removeUnused(name string) error {
	ended, cancel := context.WithCancel(context.Background())
	cancel() // one look at the lock is enough
	lock, err := lockFile(ended, name)
	if err != nil {
		return err
	}
	return errors.Join(os.Remove(name), lock.Close())
}

const (
	// lockWait is how long a download waits for another one to the same path. The process
	// of that one may have been killed and not have ended yet.
	lockWait = time.Second

	// lockRetry is the time between two attempts to lock.
	lockRetry = 20 * time.Millisecond
)

// errInUse is the error for a second download to one path.
var errInUse = errors.New("another download to it is under way")

// lockFile makes the file name, if it is missing, and locks it. It waits for another holder
// of the lock until ctx ends. A lock counts only while its file has that name: between opening
// and locking, another download may have renamed the file.
func lockFile(ctx context.Context, name string) (*flock.Flock, error) {
	for {
		lock := flock.New(name, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o644))
		ok, err := lock.TryLock()
		if err == nil && !ok {
			select {
			case <-time.After(lockRetry):
				continue
			case <-ctx.Done():
				err = errInUse
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
