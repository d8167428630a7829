package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
)

// claimPatience is how long a server waits for another one to give up the directory:
// long enough for the moment in which a writer tries the claim.
const claimPatience = 500 * time.Millisecond

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
func (s *Store) lock(ctx context.Context, name string, patience time.Duration) (*os.File, error) {
	lock, err := s.within(ctx, name, patience, disk.Lock)
	if err != nil {
		return nil, err
	}
	if err = lock.Truncate(0); err == nil {
		_, err = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock data directory %s: %w", s.dir, err), lock.Close())
	}
	return lock, nil
}

// keepOut shares the other role's lock, so that no server of that role can begin until the
// lock is closed. It returns an error matching [ErrInUse] if one is running.
func (s *Store) keepOut(ctx context.Context) (*os.File, error) {
	lock, err := s.within(ctx, s.role.other().lock(), claimPatience, disk.LockShared)
	if errors.Is(err, errTaken) {
		err = s.inUse(s.role.other())
	}
	return lock, err
}

// within takes the lock name by take, within patience. It returns an error matching errTaken
// if patience ends first, and the cause of the end of ctx.
func (s *Store) within(ctx context.Context, name string, patience time.Duration,
	take func(context.Context, *os.Root, string) (*os.File, error),
) (*os.File, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("lock data directory %s: %w", s.dir, context.Cause(ctx))
	}
	limited, cancel := context.WithTimeoutCause(ctx, patience, errTaken)
	defer cancel()
	lock, err := take(limited, s.root, name)
	if errors.Is(err, disk.ErrLocked) {
		err = context.Cause(limited)
	}
	if err != nil {
		return nil, fmt.Errorf("lock data directory %s: %w", s.dir, err)
	}
	s.giveAway(name)
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

// locked reports whether a process holds the lock name exclusively, or may: a lock that cannot be
// looked at now is not a free one.
func (s *Store) locked(name string) bool {
	ended, cancel := context.WithCancel(context.Background())
	cancel() // one look is enough
	if _, err := s.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return false
	}
	lock, err := disk.LockShared(ended, s.root, name)
	if err != nil {
		return true
	}
	_ = lock.Close() // nothing was written
	return false
}
