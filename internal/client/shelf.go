package client

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gofrs/flock"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// hidden is the directory, in the output directory, of what a follow remembers.
const hidden = ".shardcast-follow"

// What is in it, and what becomes of it on the way.
const (
	recordName = hidden + "/versions.json"
	recordTemp = hidden + "/versions.json.tmp"
	lockName   = hidden + "/lock"
	linkTemp   = hidden + "/link"
)

// maxRecord bounds a record in bytes: many times what the most versions take.
const maxRecord = 64 << 20

// maxKnown is how many digests of past versions are remembered.
const maxKnown = 200

// record is what a follow remembers, always written before what it tells of is done:
// what is on the disk and not in it is not ours.
type record struct {
	// Last is the highest version that was delivered, or 0.
	Last shard.Version `json:"last"`

	// Over says that an origin has started over, so that numbers begin with 1 again.
	Over bool `json:"over,omitempty"`

	// Known are versions up to Last, as they were offered.
	Known []known `json:"known"`

	// Begun is the version that is being downloaded, or nil.
	Begun *copied `json:"begun,omitempty"`

	// Held are those that are here, in the order in which they came.
	Held []copied `json:"held"`

	// Dirs are the directories that were made for them.
	Dirs []string `json:"dirs"`

	// Link is the symbolic link that was made, or empty.
	Link string `json:"link,omitempty"`
}

// known is a version's digest.
type known struct {
	Version shard.Version `json:"version"`
	Digest  shard.Digest  `json:"digest"`
}

// copied is a version's file in the output directory.
type copied struct {
	Version shard.Version `json:"version"`

	// Manifest is the version's, without the shards, of which Shards is the number.
	Manifest shard.Manifest `json:"manifest"`
	Shards   int            `json:"shard_count"`

	// Offered is the digest by which it was on offer: the manifest's, or its BLAKE3.
	Offered shard.Digest `json:"offered"`

	// Path is where the file is, with slashes, and Marker the file beside it that
	// says so, or empty if there is none of ours.
	Path   string `json:"path"`
	Marker string `json:"marker,omitempty"`

	// Modified is the file's, in nanoseconds, by which it is known again.
	Modified int64 `json:"modified"`

	// Found says that the file was there before, and so is never removed.
	Found bool `json:"found,omitempty"`

	// Delivered says that its caller has had it.
	Delivered bool `json:"delivered"`
}

// is reports whether h is the file that e offers.
func (h copied) is(e distfile.Entry) bool {
	return h.Version == e.Version && (h.Manifest.Digest == e.Digest || h.Offered == e.Digest)
}

// shelf is the output directory of a follow, and what it keeps there.
type shelf struct {
	record

	root   *os.Root
	lock   *flock.Flock
	logger *slog.Logger
}

// errFollowed is for a second follow of one directory.
var errFollowed = errors.New("another follow keeps this directory")

// openShelf opens the directory dir, which it makes if it is missing, and locks it.
func openShelf(ctx context.Context, dir string, logger *slog.Logger) (*shelf, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	s := &shelf{root: root, logger: logger}
	if err := errors.Join(s.claim(ctx), s.read()); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *shelf) claim(ctx context.Context) error {
	if err := s.root.Mkdir(hidden, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	lock, err := lockFile(limited, s.full(lockName))
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errUnderWay):
		return fmt.Errorf("%s: %w", s.root.Name(), errFollowed)
	}
	s.lock = lock
	return err
}

// read reads the record, if there is one.
func (s *shelf) read() error {
	f, err := s.root.Open(recordName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err == nil {
		err = json.Unmarshal(text, &s.record)
	}
	for _, h := range s.all() {
		if !filepath.IsLocal(filepath.FromSlash(h.Path)) {
			err = errors.Join(err, fmt.Errorf("%q is not in this directory", h.Path))
		}
	}
	if err != nil {
		return fmt.Errorf("%s, without which all here is taken for somebody else's: %w", s.full(recordName), err)
	}
	return nil
}

// all are the files that are here or on their way.
func (s *shelf) all() []copied {
	if s.Begun == nil {
		return s.Held
	}
	return append(slices.Clone(s.Held), *s.Begun)
}

func (s *shelf) close() error {
	var err error
	if s.lock != nil {
		err = s.lock.Close()
	}
	return errors.Join(err, s.root.Close())
}

// save writes the record.
func (s *shelf) save() error {
	text, err := json.MarshalIndent(s.record, "", "  ")
	if err != nil {
		return err
	}
	return disk.WriteFile(s.root, recordTemp, recordName, append(text, '\n'))
}

// full is the path of a name in the directory for those who know nothing of that.
func (s *shelf) full(name string) string {
	return filepath.Join(s.root.Name(), filepath.FromSlash(name))
}

// check looks at what has become of all that the record tells of since it was written.
func (s *shelf) check(ctx context.Context) error {
	if b := s.Begun; b != nil {
		if here, err := s.isHere(ctx, b); err != nil {
			return err
		} else if here {
			s.put(*b)
		} else if _, err := s.root.Lstat(b.Path); err == nil && s.at(b.Path) < 0 {
			s.logger.Warn("file is somebody else's", "version", b.Version.String(), "file", s.full(b.Path))
			s.abandon()
		}
	}
	var left []copied
	for _, h := range s.Held {
		here, err := s.stillHere(ctx, &h)
		if err != nil {
			return err
		}
		if here {
			left = append(left, h)
			continue
		}
		s.unmark(h)
		if h.Version == s.Last {
			s.Last-- // for it to come again
		}
	}
	s.Held = left
	s.tidy()
	return s.save()
}

// same reports whether the file of h is the one that was put there, by its looks.
func (s *shelf) same(h copied) bool {
	info, err := s.root.Lstat(h.Path)
	return err == nil && info.Mode().IsRegular() && info.Size() == h.Manifest.Size && info.ModTime().UnixNano() == h.Modified
}

// isHere reports whether the file of h is there by its digest, and takes note of its
// looks and its SHA-256.
func (s *shelf) isHere(ctx context.Context, h *copied) (bool, error) {
	// A pipe is not opened: that takes for ever.
	info, err := s.root.Lstat(h.Path)
	if err != nil || !info.Mode().IsRegular() || h.Manifest.Size >= 0 && info.Size() != h.Manifest.Size {
		return false, nil //nolint:nilerr // it is not there
	}
	f, err := s.root.Open(h.Path)
	if err != nil {
		return false, nil //nolint:nilerr // it is not ours, then
	}
	defer f.Close()
	s.logger.Info("file is checked", "version", h.Version.String(), "file", s.full(h.Path))
	sums, blake3 := sha256.New(), shard.NewBLAKE3() // the digest may be either
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	defer stop()
	if _, err := io.Copy(io.MultiWriter(sums, blake3), f); ctx.Err() != nil {
		return false, context.Cause(ctx)
	} else if err != nil {
		return false, err
	}
	digest := shard.Digest(sums.Sum(nil))
	if digest != h.Manifest.Digest && shard.Digest(blake3.Sum(nil)) != h.Manifest.Digest {
		return false, nil
	}
	h.Manifest.Digest, h.Modified = digest, info.ModTime().UnixNano()
	return true, nil
}

// at is the index of what is held at a path, or -1.
func (s *shelf) at(path string) int {
	return slices.IndexFunc(s.Held, func(h copied) bool { return h.Path == path })
}

// put adds what has come to what is held, in place of what was where it is.
func (s *shelf) put(h copied) {
	s.Begun = nil
	s.Held = append(slices.DeleteFunc(s.Held, func(o copied) bool { return o.Path == h.Path }), h)
}

// errHere ends a download of what turns out to be there.
var errHere = errors.New("the file is here already")

// errForeign is for a version whose place is taken.
var errForeign = errors.New("a file that is not ours is in the way")

// begin takes note of b, makes the directories on the way to its file, and opens the
// last one. What was begun before is done away with, if it was to be elsewhere. Errors
// match errHere if the file is there, and errForeign if another one is.
func (s *shelf) begin(ctx context.Context, b copied, marker string) (*os.Root, error) {
	if s.Begun != nil && s.Begun.Path != b.Path {
		s.abandon()
	}
	_, err := s.root.Lstat(b.Path)
	switch i := s.at(b.Path); {
	case err == nil && i >= 0 && s.Held[i].Version == b.Version && !s.Held[i].Found:
		b.Marker = s.Held[i].Marker // another file by that number, which ours replaces
	case err == nil:
		b.Found = true
		if here, err := s.isHere(ctx, &b); err != nil {
			return nil, err
		} else if here && i < 0 {
			s.put(b)
			return nil, errHere
		}
		return nil, fmt.Errorf("%w: %s", errForeign, s.full(b.Path))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	dir := path.Dir(b.Path)
	if name := path.Join(dir, marker); marker != "" && b.Marker == "" {
		if _, err := s.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			b.Marker = name
		}
	}
	for d := dir; d != "."; d = path.Dir(d) {
		if _, err := s.root.Lstat(d); errors.Is(err, fs.ErrNotExist) && !slices.Contains(s.Dirs, d) {
			s.Dirs = append(s.Dirs, d)
		}
	}
	s.Begun = &b
	if err := s.save(); err != nil {
		return nil, err
	}
	if err := s.root.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return s.root.OpenRoot(dir)
}

// complete takes note that what was begun has come, with what m says.
func (s *shelf) complete(m shard.Manifest) error {
	b := *s.Begun
	info, err := s.root.Lstat(b.Path)
	if err != nil {
		return err
	}
	b.Shards, b.Modified = len(m.Shards), info.ModTime().UnixNano()
	m.Shards = nil
	b.Manifest = m
	s.put(b)
	return nil
}

// abandon removes what there is of the version that was begun.
func (s *shelf) abandon() {
	b := s.Begun
	if b == nil {
		return
	}
	s.Begun = nil
	temp := path.Join(path.Dir(b.Path), tempName(path.Base(b.Path)))
	if info, err := s.root.Lstat(temp); err == nil && info.Mode().IsRegular() {
		if err := removeUnused(s.full(temp)); err != nil {
			s.logger.Warn("unfinished download not removed", "version", b.Version.String(), "file", s.full(temp), "err", err)
		}
	}
	s.tidy()
}

// trim removes all but the last keep versions. It returns what ended ctx, or that a
// file cannot be read.
func (s *shelf) trim(ctx context.Context, keep int) error {
	for len(s.Held) > keep {
		h := s.Held[0]
		here, err := s.stillHere(ctx, &h)
		if err != nil {
			return err
		}
		s.Held = slices.Delete(s.Held, 0, 1)
		if h.Found {
			continue
		}
		s.unmark(h)
		if !here {
			continue
		}
		if err := s.root.Remove(h.Path); err != nil {
			s.logger.Warn("old version not removed", "version", h.Version.String(), "err", err)
			continue
		}
		s.logger.Info("old version removed", "version", h.Version.String(), "file", s.full(h.Path))
	}
	s.tidy()
	return nil
}

// stillHere reports whether the file of h is the one that was put there: by its looks, or
// if these have changed by its digest. If not, it says so.
func (s *shelf) stillHere(ctx context.Context, h *copied) (bool, error) {
	if s.same(*h) {
		return true, nil
	}
	here, err := s.isHere(ctx, h)
	if err == nil && !here {
		s.logger.Warn("file has gone or changed", "version", h.Version.String(), "file", s.full(h.Path))
	}
	return here, err
}

// tidy removes the directories that were made and are empty, and forgets those that
// hold only what others have put there.
func (s *shelf) tidy() {
	slices.SortFunc(s.Dirs, func(a, b string) int { return len(b) - len(a) }) // those within others first
	s.Dirs = slices.DeleteFunc(s.Dirs, func(dir string) bool {
		if slices.ContainsFunc(s.all(), func(h copied) bool { return strings.HasPrefix(h.Path, dir+"/") }) {
			return false
		}
		if info, err := s.root.Lstat(dir); err == nil && info.IsDir() {
			_ = s.root.Remove(dir) // which fails if there is something in it
		}
		return true
	})
}

// mark writes the marker of h.
func (s *shelf) mark(h copied) error {
	if h.Marker == "" {
		return nil
	}
	f, err := s.root.OpenFile(h.Marker, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), disk.SyncDir(s.root, path.Dir(h.Marker)))
}

// unmark removes the marker of h, if it is as it was made.
func (s *shelf) unmark(h copied) {
	if h.Marker == "" {
		return
	}
	if info, err := s.root.Lstat(h.Marker); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
		_ = s.root.Remove(h.Marker) // what is left of it is told by its directory
	}
}

// errLink is for a name that something else has.
var errLink = errors.New("it is there and no link of ours")

// checkLink returns an error unless the link name is ours or may become so.
func (s *shelf) checkLink(name string) error {
	if _, err := s.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := s.root.Readlink(name); err != nil || s.Link != name {
		return fmt.Errorf("link %s: %w", s.full(name), errLink)
	}
	return nil
}

// point has the link name point to h, at once.
func (s *shelf) point(name string, h copied) error {
	target := filepath.FromSlash(h.Path)
	if now, err := s.root.Readlink(name); err == nil && now == target && s.Link == name {
		return nil
	}
	if err := s.checkLink(name); err != nil {
		return err
	}
	if s.Link != name {
		s.unlink()
		s.Link = name
		if err := s.save(); err != nil {
			return err
		}
	}
	if err := s.root.Remove(linkTemp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.root.Symlink(target, linkTemp); err != nil {
		return err
	}
	if err := s.root.Rename(linkTemp, name); err != nil {
		return err
	}
	return disk.SyncDir(s.root, ".")
}

// unlink removes a link of ours by another name.
func (s *shelf) unlink() {
	if s.Link == "" {
		return
	}
	if _, err := s.root.Readlink(s.Link); err == nil {
		_ = s.root.Remove(s.Link) // it points to what is there, or to nothing
	}
}

// delivered takes note that h has been delivered, while offers were on offer.
func (s *shelf) delivered(h copied, offers []distfile.Entry) error {
	if i := s.at(h.Path); i >= 0 {
		s.Held[i].Delivered = true
	}
	s.Last = h.Version
	s.learn(append(slices.Clone(offers), distfile.Entry{Version: h.Version, Digest: h.Manifest.Digest}, distfile.Entry{Version: h.Version, Digest: h.Offered}))
	return s.save()
}

// learn takes note of the digests of what is on offer up to the last version.
func (s *shelf) learn(offers []distfile.Entry) {
	for _, o := range offers {
		k := known{o.Version, o.Digest}
		if o.Version <= s.Last && !slices.Contains(s.Known, k) {
			s.Known = append(s.Known, k)
		}
	}
	slices.SortStableFunc(s.Known, func(a, b known) int { return int(int64(a.Version) - int64(b.Version)) })
	s.Known = slices.Delete(s.Known, 0, max(0, len(s.Known)-maxKnown))
}

// startOver takes note that numbers have begun again, with what is on offer.
func (s *shelf) startOver(offers []distfile.Entry) error {
	s.Last, s.Over, s.Known = 0, true, nil
	for _, o := range offers {
		if s.holds(o) {
			s.Last = o.Version
		}
	}
	s.learn(offers)
	return s.save()
}

// holds reports whether e is here and delivered.
func (s *shelf) holds(e distfile.Entry) bool {
	return slices.ContainsFunc(s.Held, func(h copied) bool { return h.Delivered && h.is(e) })
}

// pending is the first version that is here and was not delivered.
func (s *shelf) pending() (h copied, ok bool) {
	if i := slices.IndexFunc(s.Held, func(h copied) bool { return !h.Delivered }); i >= 0 {
		return s.Held[i], true
	}
	return copied{}, false
}
