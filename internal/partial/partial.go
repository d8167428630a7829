// Package partial keeps the bytes of a version that arrives, until it has its final name: in a partial file beside
// that name or, of a version that is a tree, in a partial directory. It does not know how bytes come, nor whether they
// are right; only of a tree it checks the headers that follow from the list of files.
//
// Each byte is written once, at its place. The content takes the final name when all of it is on the disk; until then
// the previous file or directory of that name stays as it was.
//
// The partial file of a download that failed or was killed stays, and the next download of the same version to the
// same name continues it. Progress is read from the holes in the partial (sparse) file, so no state file can fall out
// of step. A download of another version to that name replaces it. A partial file that no download has continued for a
// day is removed by the next download into its directory.
package partial

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

// Suffix ends the names of partial files and directories.
const Suffix = ".shardcast-part"

// Name is the name of the partial file or directory of base. It follows from base, so that the next
// download to the same path finds the file.
func Name(base string) string {
	if len(base) > disk.MaxName-len(".")-len(Suffix) {
		digest := sha256.Sum256([]byte(base))
		base = hex.EncodeToString(digest[:])
	}
	return "." + base + Suffix
}

// prepare empties the partial file unless it is of m, and reports whether some of m's bytes may be in
// it already, also with an error.
func prepare(file *disk.File, m shard.Manifest, afresh bool) (resumed bool, err error) {
	info, err := file.Stat()
	if err != nil {
		return true, err
	}
	if !afresh {
		if resumed, err = isOf(file, info.Size(), m, footerOf(m.Digest)); err != nil {
			return true, err // a file that cannot be read now may be right
		}
	}
	if !resumed {
		return false, file.Truncate(0)
	}
	return true, nil
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
func isOf(file io.ReaderAt, size int64, m shard.Manifest, footer string) (bool, error) {
	if size == m.Size {
		return size > 0, nil
	}
	buf := make([]byte, len(footer)+1)
	n, err := file.ReadAt(buf, footerAt(m.Size))
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return string(buf[:n]) == footer, nil
}

// abandoned is the age from which a partial file is removed by a download of another file.
const abandoned = 24 * time.Hour

// Sweep removes the partial files and directories from dir that no download has continued for a day, except that
// of base, and logs each. What cannot be removed stays.
func Sweep(dir *os.Root, base string, logger *slog.Logger) {
	for entry, err := range disk.Entries(dir, ".") {
		if err != nil {
			return
		}
		name := entry.Name()
		info, err := entry.Info()
		if err != nil || name == Name(base) || name[0] != '.' || !strings.HasSuffix(name, Suffix) ||
			!info.Mode().IsRegular() && !info.IsDir() || time.Since(lastWritten(dir, name, info)) < abandoned {
			continue
		}
		if removeUnused(dir, name) == nil {
			logger.Info("abandoned download removed", "file", filepath.Join(dir.Name(), name))
		}
	}
}

// lastWritten is the time of the last change to the partial file or directory name.
func lastWritten(dir *os.Root, name string, info fs.FileInfo) time.Time {
	last := info.ModTime()
	if !info.IsDir() {
		return last
	}
	_ = disk.Walk(dir, name, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it counts as old
		}
		if info, err := entry.Info(); err == nil && info.ModTime().After(last) {
			last = info.ModTime()
		}
		return nil
	})
	return last
}

// Remove removes the partial file or directory of a download to the name base in dir, if there is one that a
// download has made. The error matches [disk.ErrLocked] while a download uses it.
func Remove(dir *os.Root, base string) error {
	name := Name(base)
	if _, err := dir.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := removeUnused(dir, name); err != nil && !errors.Is(err, disk.ErrForeign) {
		return err
	}
	return nil
}

// removeUnused removes the partial file or directory name in dir, unless a download uses it.
func removeUnused(dir *os.Root, name string) error {
	ended, cancel := context.WithCancel(context.Background())
	cancel() // one look at the lock is enough
	if info, err := dir.Lstat(name); err == nil && info.IsDir() {
		return removeUnusedTree(ended, dir, name)
	}
	lock, err := disk.Lock(ended, dir, name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Remove(name), lock.Close())
}

// removeUnusedTree removes the partial directory name in dir, unless a download uses it: then,
// or if it has no lock and so was made by no download, there is an error.
func removeUnusedTree(ctx context.Context, dir *os.Root, name string) error {
	if _, err := dir.Lstat(path.Join(name, lockName)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is %w: it is a directory without a lock",
			filepath.Join(dir.Name(), name), disk.ErrForeign)
	}
	part, err := dir.OpenRoot(name)
	if err != nil {
		return err
	}
	lock, err := disk.Lock(ctx, part, lockName)
	if err != nil {
		return errors.Join(err, part.Close())
	}
	return removePart(dir, name, part, lock)
}
