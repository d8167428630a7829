package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// ErrLocked means that another process, or another part of this one, holds a lock.
var ErrLocked = errors.New("lock is taken")

// lockRetry is the time between two tries of a taken lock.
const lockRetry = 20 * time.Millisecond

// Lock opens the file name in root as [OpenOwn] does, for this user alone if it is missing, and
// locks it until it is closed. It waits for another holder of the lock until ctx ends; then the
// error matches [ErrLocked]. A lock counts only while its file has that name, so a file that its
// holder has renamed or removed is not taken for the lock.
func Lock(ctx context.Context, root *os.Root, name string) (*os.File, error) {
	return lock(ctx, root, name, false)
}

// LockShared is [Lock], but others may share the lock.
func LockShared(ctx context.Context, root *os.Root, name string) (*os.File, error) {
	return lock(ctx, root, name, true)
}

func lock(ctx context.Context, root *os.Root, name string, shared bool) (*os.File, error) {
	for {
		f, err := OpenOwn(root, name, 0o600)
		if err != nil {
			return nil, err
		}
		ok, err := lockNamed(root, name, f, shared)
		switch {
		case ok:
			return f, nil
		case err == nil:
			if err = f.Close(); err == nil {
				continue // the file has another name now
			}
		case errors.Is(err, ErrLocked) && ctx.Err() == nil:
			err = f.Close()
			select {
			case <-time.After(lockRetry):
			case <-ctx.Done():
			}
			if err == nil {
				continue
			}
		default:
			err = errors.Join(err, f.Close())
		}
		return nil, err
	}
}

// lockNamed locks f, and reports whether it has the name in root then.
func lockNamed(root *os.Root, name string, f *os.File, shared bool) (bool, error) {
	err := tryLock(f, shared)
	if hasNoLocks(err) {
		return false, fmt.Errorf("lock %s: the file system has no locks (%w); mount it with them "+
			"(Lustre: -o flock, NFS: -o local_lock=flock), or use a local directory",
			full(root, name), err)
	}
	if err != nil {
		return false, err
	}
	locked, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := root.Lstat(name)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(locked, named), err
}

// hasNoLocks reports whether err means that a file system has no locks.
func hasNoLocks(err error) bool {
	for _, no := range []error{syscall.ENOSYS, syscall.ENOTSUP, syscall.EOPNOTSUPP, syscall.ENOLCK} {
		if errors.Is(err, no) {
			return true
		}
	}
	return errors.Is(err, errors.ErrUnsupported)
}
