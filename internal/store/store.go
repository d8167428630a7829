// Package store keeps a data directory: it publishes, reads and retires versions, and lets
// one writer at a time do so. It refuses to know HTTP, and where the bytes come from.
//
//	distribution.txt       the versions on offer, see package distfile
//	release.txt            their signed list, where there is one, see package release
//	v1/manifest.json       see package shard
//	v1/SHA256SUMS          the digests of the shards, for sha256sum -c
//	v1/BLAKE3              the BLAKE3 of the version, where it is known
//	v1/shard_001.bin
//	v2/from_v1/            a delta, with a manifest.json and shards of its own, see [shard.DeltaManifest]
//	.shardcast/            private, never served
//	    ROLE.lock          held by the one server of the directory, for as long as it runs
//	    write.lock         held by the process that publishes or retires
//	    settings.json      see [policy.Settings]
//	    settings.lock      held while they are changed
//	    state.json         the highest version number used, the versions that are being moved, those
//	                       that were declared bad, and the number of the last release
//	    watched.json       the files that the server has published of a directory that it watches
//	    drafts/v2/         a version that is not whole yet
//	    retired/v1/        a version that is off the offer, and still being read
//
// What a reader may lean on: a version directory appears whole and synced, by one rename,
// and distribution.txt names a version only while its directory is in place. What a writer
// may lean on: no number is used twice, since state.json is on the disk before the
// directory that it is about; and the next writer undoes a crash between two steps, by the
// versions in state.json, whose directories and listing may disagree. The store touches
// nothing else in the directory.
//
// Where there is a release, it decides: it is written before distribution.txt, with the key, and
// the next writer has distribution.txt agree with it, for which it needs no key.
//
// A directory of the Python package is one, too, as it is: distribution.txt may have
// counts, which stay, versions may have no manifest, and a shard may be called
// shard_00001.bin where there is no shard_001.bin.
//
// Several processes may use a directory at once. The locks are advisory (flock), and end
// with the process that holds them.
package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signing"
)

// Names in a data directory. Temporary files are in the private one, so that a file with a
// final name is whole.
const (
	private     = ".shardcast"
	drafts      = private + "/drafts"
	retired     = private + "/retired"
	writeLock   = private + "/write.lock"
	stateName   = private + "/state.json"
	watchedName = private + "/watched.json"
)

// A Store is one data directory. Its methods may be called from any goroutine.
type Store struct {
	dir  string
	role Role
	root *os.Root
	made bool // by Open

	logger  *slog.Logger
	beside  func() []distfile.Entry
	signing *signing.Options // nil without a key
	left    sync.Map         // names that cannot be cleaned up, and are logged

	// step is called before each change of a name that a writer makes, for tests to stop
	// it there.
	step func()

	uses uses

	measuring sync.Mutex // guards measured, and is held during a measurement
	measured  map[distfile.Entry]Usage

	labelling sync.Mutex // guards labels, and is held while a manifest is read
	labels    map[distfile.Entry]map[string]string
}

// uses are the readers of versions.
type uses struct {
	mu sync.Mutex // guards of
	of map[shard.Version]*use
}

// use is the use of one version.
type use struct {
	readers int
	last    time.Time // when the last reader left, or when the version was found retired
}

// begin notes a reader of v, until it calls done.
func (us *uses) begin(v shard.Version) (done func()) {
	us.mu.Lock()
	defer us.mu.Unlock()
	u := us.of[v]
	if u == nil {
		u = &use{}
		us.of[v] = u
	}
	u.readers++
	return func() {
		us.mu.Lock()
		defer us.mu.Unlock()
		u.readers--
		u.last = time.Now()
	}
}

// forgetIdle reports whether v has had no reader for as long as idle, and forgets it then.
func (us *uses) forgetIdle(v shard.Version, idle time.Duration) bool {
	us.mu.Lock()
	defer us.mu.Unlock()
	u := us.of[v]
	if u == nil {
		u = &use{last: time.Now()}
		us.of[v] = u
	}
	if u.readers > 0 || time.Since(u.last) < idle {
		return false
	}
	delete(us.of, v)
	return true
}

// Open opens the data directory dir for role, and makes it if it is missing.
// Close gives it back.
func Open(dir string, role Role) (*Store, error) {
	_, missing := os.Lstat(dir)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	for _, name := range []string{private, drafts, retired} {
		if err := disk.MakePrivate(root, name); err != nil {
			return nil, errors.Join(fmt.Errorf("data directory %s: %w", dir, err), root.Close())
		}
	}
	s := newStore(dir, role, root)
	s.made = errors.Is(missing, fs.ErrNotExist)
	s.giveAway(private)
	return s, nil
}

// Read opens the data directory dir to be read, and makes nothing there. The error matches
// [fs.ErrNotExist] if there is no such directory.
func Read(dir string) (*Store, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("data directory: %w; name another one, or publish into this one first", err)
	}
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	return newStore(dir, Origin, root), nil
}

func newStore(dir string, role Role, root *os.Root) *Store {
	return &Store{
		dir: dir, role: role, root: root, uses: uses{of: make(map[shard.Version]*use)},
		logger: slog.New(slog.DiscardHandler), step: func() {},
		beside: func() []distfile.Entry { return nil },
	}
}

// Beside has the versions that entries returns take no places of others: as many of them are
// kept beside those. It must be called before any other method.
func (s *Store) Beside(entries func() []distfile.Entry) { s.beside = entries }

// LogTo has logger receive a record for each version that a writer retires, and for what
// cannot be cleaned up. It must be called before any other method.
func (s *Store) LogTo(logger *slog.Logger) { s.logger = logger }

// Close closes the directory, and removes it if [Open] made it and it is empty. It leaves
// files that were opened for reading open.
func (s *Store) Close() error {
	if s.made && s.isUnused() {
		for _, name := range []string{drafts, retired, private} {
			_ = s.root.Remove(name) // unless it has files
		}
		_ = os.Remove(s.dir)
	}
	return s.root.Close()
}

// isUnused reports whether no process has ever locked the directory. Else another program
// may be at work in it.
func (s *Store) isUnused() bool {
	there, err := fs.ReadDir(s.root.FS(), private)
	return err == nil && len(there) == 2 // drafts and retired
}

// Dir returns the path that the store was opened with.
func (s *Store) Dir() string { return s.dir }

// Role returns the role that the store was opened for.
func (s *Store) Role() Role { return s.role }

// Distribution returns the versions on offer, ascending, and nothing for a
// directory that nothing has been published in.
func (s *Store) Distribution() ([]distfile.Entry, error) {
	entries, _, err := s.distribution()
	return entries, err
}

// StatDistribution describes the file that [Store.Distribution] reads. The error
// matches [fs.ErrNotExist] if there is none.
func (s *Store) StatDistribution() (fs.FileInfo, error) { return s.root.Stat(distfile.FileName) }

// Watched returns the last text of [Store.SetWatched]. The error matches [fs.ErrNotExist]
// if there is none.
func (s *Store) Watched() ([]byte, error) { return s.readFile(watchedName) }

// SetWatched keeps the record, of the one server of the directory, of the files that it has
// published by itself, for its next start. All of text is on the disk when this returns nil.
func (s *Store) SetWatched(text []byte) error { return s.writeFile(watchedName, text) }

// distribution returns the versions on offer and the lines that cannot be read.
func (s *Store) distribution() ([]distfile.Entry, []distfile.LineError, error) {
	f, err := disk.OpenRegular(s.root, distfile.FileName)
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

// Manifest opens the manifest of v. The error matches [fs.ErrNotExist] if v is not here, or
// has none.
func (s *Store) Manifest(v shard.Version) (*os.File, error) {
	return s.open(v, shard.ManifestName)
}

// Files opens the list of files of v, which is a tree, see package tree: also while v is a
// draft. The error matches [fs.ErrNotExist] if v is not here, or has none.
func (s *Store) Files(v shard.Version) (*os.File, error) {
	return (&Draft{store: s, version: v}).ReadFile(shard.FilesName)
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

// Shard opens shard number of v for reading. The error matches [fs.ErrNotExist] if it is
// not here. A retired version can still be opened for as long as [Store.Sweep] finds
// readers; the reader calls done when it has finished.
func (s *Store) Shard(v shard.Version, number int) (f *os.File, done func(), err error) {
	f, err = s.open(v, shard.FileName(number), shard.LongFileName(number))
	if err != nil {
		return nil, nil, err
	}
	return f, s.uses.begin(v), nil
}

// Sweep removes the retired versions without readers for as long as idle.
func (s *Store) Sweep(idle time.Duration) error {
	return s.removeRetired(func(v shard.Version) bool { return s.uses.forgetIdle(v, idle) })
}

// open opens a file of v, by the first of its names that exists, where v is on offer or
// where it was retired to. Links and directories of that name do not count.
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
	f, err := disk.OpenRegular(s.root, name)
	if errors.Is(err, disk.ErrForeign) {
		return nil, fs.ErrNotExist
	}
	return f, err
}

// absent are the system's errors for a missing file; for a link that leads out of the
// directory the error is not the system's.
var absent = []syscall.Errno{syscall.ENOENT, syscall.ENOTDIR, syscall.ELOOP}

// removeRetired removes the retired versions that ok approves of, as far as that is possible.
func (s *Store) removeRetired(ok func(shard.Version) bool) error {
	versions, err := s.versionsIn(retired)
	for _, v := range versions {
		name := path.Join(retired, v.String())
		if !ok(v) {
			continue
		}
		if bad := s.removeAll(name); bad != nil {
			s.leave(name, bad)
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

// writeFile replaces a file in the data directory by way of the private one.
func (s *Store) writeFile(name string, data []byte) error {
	s.step()
	perm := fs.FileMode(0o666)
	if path.Dir(name) == private {
		perm = 0o600
	}
	err := disk.WriteFile(s.root, tempName(name), name, data, perm)
	s.giveAway(name)
	return err
}

// mostPrivate bounds the bytes of a file of the private directory, far beyond their use.
const mostPrivate = 64 << 20

// readFile reads a file of the private directory.
func (s *Store) readFile(name string) ([]byte, error) {
	return disk.ReadFile(s.root, name, mostPrivate)
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
