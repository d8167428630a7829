// Package store keeps a data directory: it publishes, reads and retires
// versions, and lets one writer at a time do so. It knows nothing of HTTP, nor
// of where the bytes come from.
//
//	distribution.txt       the versions on offer, see package distfile
//	v1/manifest.json       see package shard
//	v1/SHA256SUMS          the digests of the shards, for sha256sum -c
//	v1/shard_001.bin
//	.shardcast/            private, never served
//	    ROLE.lock          held by the one server of the directory, for as long as it runs
//	    write.lock         held by whoever publishes or retires
//	    state.json         the highest version number used, and what is being moved
//	    watched.json       what the server has published of a directory that it watches
//	    drafts/v2/         a version that is not whole yet
//	    retired/v1/        a version that is not on offer any more, but still being read
//
// What a reader may lean on: a version directory appears whole and synced, by
// one rename, and distribution.txt names a version only while its directory is
// in place. What a writer may lean on: no number is used twice, since state.json
// is on the disk before the directory that it is about; and a crash between two
// steps is undone by the next writer, which finds in state.json the versions
// whose directories and listing may disagree. Nothing else in the directory is
// ever touched.
//
// A directory of the Python package is one too, as it is: distribution.txt may have
// counts, which stay, versions may have no manifest, and a shard may be called
// shard_00001.bin where there is no shard_001.bin.
//
// Several processes may use a directory at once. The locks are advisory (flock),
// and end with the process that holds them.
package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// Names in a data directory. Temporary files are in the private one, so that a
// final name is never seen on anything unfinished.
const (
	private     = ".shardcast"
	drafts      = private + "/drafts"
	retired     = private + "/retired"
	writeLock   = private + "/write.lock"
	stateName   = private + "/state.json"
	watchedName = private + "/watched.json"
)

const (
	// claimPatience is how long a server waits for another one to give up the
	// directory: long enough for the glance that a writer takes at the claim.
	claimPatience = 500 * time.Millisecond

	// lockRetry is how often a taken lock is tried again.
	lockRetry = 20 * time.Millisecond
)

// A Role is who uses a data directory; it stands in error messages and in the
// lock files.
type Role string

// The two roles that keep a data directory.
const (
	Origin Role = "shardcast-origin"
	Middle Role = "shardcast-middle"
)

// lock is the name of the lock that a server of the role holds exclusively while
// it runs, and that everyone of the other role shares while he must not.
func (r Role) lock() string { return private + "/" + string(r) + ".lock" }

// other is the role that must not use the directory at the same time: what is
// published by one would be retired by the other.
func (r Role) other() Role {
	if r == Origin {
		return Middle
	}
	return Origin
}

// ErrInUse is what [Store.Claim] and [Store.Lock] return for a directory that
// another server keeps.
var ErrInUse = errors.New("data directory is in use")

// A Store is one data directory. Its methods may be called from any goroutine.
type Store struct {
	dir  string
	role Role
	root *os.Root
	made bool // by Open

	// step is called before each change of a name that a writer makes, for tests to stop
	// it there.
	step func()

	mu   sync.Mutex // guards uses
	uses map[shard.Version]*use

	measuring sync.Mutex // guards measured
	measured  map[distfile.Entry]Usage
}

// use is who reads a version at the moment.
type use struct {
	readers int
	last    time.Time // when the last reader left, or when the version was found retired
}

// Open opens the data directory dir for role, and makes it if it is missing.
// Close gives it back.
func Open(dir string, role Role) (*Store, error) {
	_, missing := os.Lstat(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	for _, name := range []string{drafts, retired} {
		if err := root.MkdirAll(name, 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("data directory %s: %w", dir, err), root.Close())
		}
	}
	return &Store{
		dir: dir, role: role, root: root, uses: make(map[shard.Version]*use),
		made: errors.Is(missing, fs.ErrNotExist), step: func() {},
	}, nil
}

// Close gives back what [Open] took, and removes the directory if that made it
// and nothing has been put there. It leaves files that were opened for reading
// open.
func (s *Store) Close() error {
	if s.made && s.isUnused() {
		for _, name := range []string{drafts, retired, private} {
			_ = s.root.Remove(name) // unless it is of use
		}
		_ = os.Remove(s.dir)
	}
	return s.root.Close()
}

// isUnused reports whether nobody has ever locked the directory. Else another program may
// be at work in it.
func (s *Store) isUnused() bool {
	there, err := fs.ReadDir(s.root.FS(), private)
	return err == nil && len(there) == 2 // drafts and retired
}

// Dir returns the path that the store was opened with.
func (s *Store) Dir() string { return s.dir }

// Role returns the role that the store was opened for.
func (s *Store) Role() Role { return s.role }

// Claim makes this process the one server of the directory until release is
// called. It returns an error matching [ErrInUse] if another process is that.
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

// Distribution returns the versions on offer, ascending, and nothing for a
// directory that nothing has been published in.
func (s *Store) Distribution() ([]distfile.Entry, error) {
	entries, _, err := s.distribution()
	return entries, err
}

// StatDistribution describes the file that [Store.Distribution] reads. The error
// matches [fs.ErrNotExist] if there is none.
func (s *Store) StatDistribution() (fs.FileInfo, error) { return s.root.Stat(distfile.FileName) }

// Watched returns what [Store.SetWatched] wrote last. The error matches
// [fs.ErrNotExist] if that was never called.
func (s *Store) Watched() ([]byte, error) { return s.root.ReadFile(watchedName) }

// SetWatched writes what the one server of the directory is to know after its next
// start of the files that it has published by itself. It is on the disk when this
// returns nil, all of it or nothing.
func (s *Store) SetWatched(text []byte) error { return s.writeFile(watchedName, text) }

// distribution returns the versions on offer and the lines that say nothing.
func (s *Store) distribution() ([]distfile.Entry, []distfile.LineError, error) {
	f, err := s.root.Open(distfile.FileName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("data directory %s: %w", s.dir, err)
	}
	defer f.Close()
	entries, skipped, err := distfile.Parse(f)
	if err != nil {
		return nil, nil, fmt.Errorf("data directory %s: %w", s.dir, err)
	}
	return entries, skipped, nil
}

// Manifest opens the manifest of v. The error matches [fs.ErrNotExist] if v is
// not here.
func (s *Store) Manifest(v shard.Version) (*os.File, error) {
	return s.open(v, shard.ManifestName)
}

// Holds reports whether v is here, and was not retired.
func (s *Store) Holds(v shard.Version) bool {
	info, err := s.root.Lstat(v.String())
	return err == nil && info.IsDir()
}

// Shards returns the numbers of the shards of v that are here, in no order. One that is
// here under two names is there twice.
func (s *Store) Shards(v shard.Version) ([]int, error) {
	dir, err := fs.ReadDir(s.root.FS(), v.String())
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, e := range dir {
		if number, err := shard.ParseFileName(e.Name()); err == nil && e.Type().IsRegular() {
			numbers = append(numbers, number)
		}
	}
	return numbers, nil
}

// Shard opens shard number of v for reading. The error matches
// [fs.ErrNotExist] if it is not here. A retired version can still be opened for
// as long as [Store.Sweep] finds readers; done says that this one has finished.
func (s *Store) Shard(v shard.Version, number int) (f *os.File, done func(), err error) {
	f, err = s.open(v, shard.FileName(number), shard.LongFileName(number))
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	u := s.use(v)
	u.readers++
	s.mu.Unlock()
	return f, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		u.readers--
		u.last = time.Now()
	}, nil
}

// Sweep removes the retired versions that nobody has read for idle.
func (s *Store) Sweep(idle time.Duration) error {
	return s.removeRetired(func(v shard.Version) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		u := s.use(v)
		if u.readers > 0 || time.Since(u.last) < idle {
			return false
		}
		delete(s.uses, v)
		return true
	})
}

// use returns the record of v. The caller holds mu.
func (s *Store) use(v shard.Version) *use {
	u, ok := s.uses[v]
	if !ok {
		u = &use{last: time.Now()}
		s.uses[v] = u
	}
	return u
}

// open opens a file of v, by the first of its names that there is, where v is on offer
// or where it was retired to. What bears the name and is not a file of ours is not
// there.
func (s *Store) open(v shard.Version, names ...string) (*os.File, error) {
	for _, place := range []string{".", retired} {
		for _, name := range names {
			f, err := s.openRegular(path.Join(place, v.String(), name))
			var number syscall.Errno
			if err == nil || errors.As(err, &number) && !slices.Contains(absent, number) {
				return f, err
			}
		}
		// It may just have been moved on to the next place.
	}
	return nil, &fs.PathError{Op: "open", Path: path.Join(v.String(), names[0]), Err: fs.ErrNotExist}
}

// openRegular opens a file that is no link and no directory.
func (s *Store) openRegular(name string) (*os.File, error) {
	info, err := s.root.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	return s.root.Open(name)
}

// absent are the system's ways to say that there is no such file; a link that
// leads out of the directory is none either, but that is not the system's error.
var absent = []syscall.Errno{syscall.ENOENT, syscall.ENOTDIR, syscall.ELOOP}

// removeRetired removes the retired versions that ok approves of.
func (s *Store) removeRetired(ok func(shard.Version) bool) error {
	versions, err := s.versionsIn(retired)
	for _, v := range versions {
		if ok(v) {
			err = errors.Join(err, s.removeAll(path.Join(retired, v.String())))
		}
	}
	return err
}

// versionsIn returns the versions that have a directory in the directory name.
func (s *Store) versionsIn(name string) ([]shard.Version, error) {
	dir, err := fs.ReadDir(s.root.FS(), name)
	if err != nil {
		return nil, err
	}
	var versions []shard.Version
	for _, e := range dir {
		if v, err := shard.ParseVersion(e.Name()); err == nil {
			versions = append(versions, v)
		}
	}
	slices.Sort(versions)
	return versions, nil
}

// errTaken means that a lock could not be had in time.
var errTaken = errors.New("lock is taken")

// lock takes the lock name alone, and waits for it for as long as patience. Its
// file tells people which process took it last.
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

// keepOut shares the other role's lock, so that no server of it can begin until
// that is closed. It returns an error matching [ErrInUse] if one is running.
func (s *Store) keepOut(ctx context.Context) (*flock.Flock, error) {
	lock, err := s.flock(ctx, s.role.other().lock(), claimPatience, (*flock.Flock).TryRLockContext)
	if errors.Is(err, errTaken) {
		err = s.inUse(s.role.other())
	}
	return lock, err
}

// flock takes the lock name by way of try, within patience. It returns an error
// matching errTaken if that is over first, and what ended ctx.
func (s *Store) flock(ctx context.Context, name string, patience time.Duration,
	try func(*flock.Flock, context.Context, time.Duration) (bool, error),
) (*flock.Flock, error) {
	// Made by way of the root, so that a link in its place leads nowhere.
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

// inUse says who keeps the directory, so that the lock of role cannot be had: a
// server of role, or somebody of the other one who shares that lock.
func (s *Store) inUse(role Role) error {
	process, _ := s.root.ReadFile(role.lock())
	if !s.locked(role.lock()) {
		role = role.other()
		process, _ = s.root.ReadFile(writeLock)
	}
	return fmt.Errorf("%w: %s is kept by %s (process %.20s); stop that, or choose another directory",
		ErrInUse, s.dir, role, cmp.Or(string(process), "unknown"))
}

// locked reports whether somebody has the lock name for himself alone.
func (s *Store) locked(name string) bool {
	lock := flock.New(filepath.Join(s.dir, filepath.FromSlash(name)), flock.SetFlag(os.O_RDONLY))
	defer lock.Close()
	free, err := lock.TryRLock()
	return err == nil && !free
}

// writeFile replaces a file in the data directory by way of the private one.
func (s *Store) writeFile(name string, data []byte) error {
	s.step()
	return disk.WriteFile(s.root, tempName(name), name, data)
}

func (s *Store) rename(from, to string) error {
	s.step()
	return s.root.Rename(from, to)
}

func (s *Store) removeAll(name string) error {
	s.step()
	return s.root.RemoveAll(name)
}

// tempName is the name of the file name until it is whole.
func tempName(name string) string { return private + "/" + path.Base(name) + ".tmp" }
