package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gofrs/flock"
)

const (
	// claimPatience is how long a server waits for another one to give up the directory:
	// long enough for the moment in which a writer tries the claim.
	claimPatience = 500 * time.Millisecond

	// lockRetry is the pause between two tries of a taken lock.
	lockRetry = 20 * time.Millisecond
)

// A Role is the command that uses a data directory; it stands in error messages and in the
// names of lock files.
type Role string

// The two roles that keep a data directory.
const (
	Origin Role = "shardcast-origin"
	Middle Role = "shardcast-middle"
)

// lock is the name of the lock that a server of the role holds exclusively while it runs,
// and that processes of the other role share while it must not run.
func (r Role) lock() string { return private + "/" + string(r) + ".lock" }

// other is the role that must not use the directory at the same time: it would retire the
// versions that this one publishes.
func (r Role) other() Role {
	if r == Origin {
		return Middle
	}
	return Origin
}

// ErrInUse means that another server keeps the directory.
var ErrInUse = errors.New("data directory is in use")

// Claim makes this process the one server of the directory until it calls release. It
// returns an error matching [ErrInUse] if another process is the server.
func (s *Store) Claim(ctx context.Context) (release func() error, err error) {
	others, err := s.keepOut(ctx)
	if err != nil {
		return nil, err
	}
	own, err := s.lock(ctx, s.role.lock(), claimPatience)
	if errors.Is(err, errTaken) {
		err = s.inUse(s.role)
	}
	if err != nil {
		return nil, errors.Join(err, others.Close())
	}
	return func() error { return errors.Join(own.Close(), others.Close()) }, nil
}

// errTaken means that a lock could not be had in time.
var errTaken = errors.New("lock is taken")

// lock takes the lock name exclusively, and waits for it for as long as patience. Its file
// shows people which process took it last.
func (s *Store) lock(ctx context.Context, name string, patience time.Duration) (*flock.Flock, error) {
	lock, err := s.flock(ctx, name, patience, (*flock.Flock).TryLockContext)
	if err != nil {
		return nil, err
	}
	if err := s.root.WriteFile(name, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("lock data directory %s: %w", s.dir, err), lock.Close())
	}
	return lock, nil
}

// keepOut shares the other role's lock, so that no server of that role can begin until the
// lock is closed. It returns an error matching [ErrInUse] if one is running.
func (s *Store) keepOut(ctx context.Context) (*flock.Flock, error) {
	lock, err := s.flock(ctx, s.role.other().lock(), claimPatience, (*flock.Flock).TryRLockContext)
	if errors.Is(err, errTaken) {
		err = s.inUse(s.role.other())
	}
	return lock, err
}

// flock takes the lock name by try, within patience. It returns an error matching errTaken
// if patience ends first, and the cause of the end of ctx.
func (s *Store) flock(ctx context.Context, name string, patience time.Duration,
	try func(*flock.Flock, context.Context, time.Duration) (bool, error),
) (*flock.Flock, error) {
	// Made in the root, so that a link in its place leads nowhere.
	f, err := s.root.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory %s: %w", s.dir, err)
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(s.dir, filepath.FromSlash(name)))
	within, cancel := context.WithTimeoutCause(ctx, patience, errTaken)
	defer cancel()
	if _, err := try(lock, within, lockRetry); err != nil {
		if within.Err() != nil {
			err = context.Cause(within)
		}
		return nil, errors.Join(fmt.Errorf("lock data directory %s: %w", s.dir, err), lock.Close())
	}
	return lock, nil
}

// inUse returns an error that names the process which keeps the directory, so that the
// lock of role cannot be had: a server of role, or a process of the other role that shares
// the lock.
func (s *Store) inUse(role Role) error {
	process, _ := s.root.ReadFile(role.lock())
	if !s.locked(role.lock()) {
		role = role.other()
		process, _ = s.root.ReadFile(writeLock)
	}
	return fmt.Errorf("%w: %s is kept by %s (process %.20s); stop that, or choose another directory",
		ErrInUse, s.dir, role, cmp.Or(string(process), "unknown"))
}

// locked reports whether a process holds the lock name exclusively.
func (s *Store) locked(name string) bool {
	lock := flock.New(filepath.Join(s.dir, filepath.FromSlash(name)), flock.SetFlag(os.O_RDONLY))
	defer lock.Close()
	free, err := lock.TryRLock()
	return err == nil && !free
}
