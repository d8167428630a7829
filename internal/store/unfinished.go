package store

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync/atomic"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// readAtOnce in bytes bounds what is taken from that file in one turn.
const readAtOnce = 1 << 20

// An Announcement is how a process that cuts a file into a draft lets another one,
// which serves the directory, know what is in place already.
type Announcement struct {
	file *os.File
	err  error // of the first line that could not be written
}

// Announce begins to tell of the draft, which is empty, what o says. Whoever looks
// for it finds it for as long as the directory is locked by [Store.Lock], and no
// longer, also if this process is killed.
func (d *Draft) Announce(o shard.Outline) (*Announcement, error) {
	line, err := o.Encode()
	if err != nil {
		return nil, err
	}
	f, err := d.store.root.OpenFile(path.Join(d.path(), shard.OutlineName), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	a := &Announcement{file: f}
	a.write(line)
	return a, nil
}

// Know tells that shard number is in place and has the digest d. It is called by one
// goroutine at a time. That it could not be told, [Announcement.Close] returns: it
// does not matter to the cut.
func (a *Announcement) Know(number int, d shard.Digest) {
	line, err := shard.Known{Shard: number, Digest: d}.Encode()
	if err != nil {
		a.err = errors.Join(a.err, err)
		return
	}
	a.write(line)
}

// write appends line, unless one before it was not written to its end.
func (a *Announcement) write(line []byte) {
	if a.err == nil {
		_, a.err = a.file.Write(line)
	}
}

// Close ends the telling, and returns what has kept it from telling all. It does not
// end the announcement.
func (a *Announcement) Close() error {
	return errors.Join(a.err, a.file.Close())
}

// Unfinished is a draft that is being cut, perhaps by another process, as its
// [Announcement] tells. It goes on being that draft wherever it is moved, and never
// becomes another one of the same number. Only Open may be called from any goroutine.
type Unfinished struct {
	// Outline is what was known when the cut began.
	Outline shard.Outline

	store     *Store
	dir       *os.Root // the draft's directory, which may have been moved
	file      *os.File
	line      []byte      // that has begun and not ended
	spoiled   bool        // that line is too long, and so the rest says nothing
	published atomic.Bool // the draft
}

// Unfinished returns the newest draft that is announced and being cut, or nil.
func (s *Store) Unfinished() (*Unfinished, error) {
	versions, err := s.versionsIn(drafts)
	for _, v := range slices.Backward(versions) {
		if u, err := s.unfinished(v); u != nil || err != nil {
			return u, err
		}
	}
	return nil, err
}

// unfinished returns the draft of v if it is announced and being cut, or nil.
func (s *Store) unfinished(v shard.Version) (*Unfinished, error) {
	place := path.Join(drafts, v.String())
	if _, err := s.root.Lstat(path.Join(place, shard.OutlineName)); err != nil {
		return nil, nil //nolint:nilnil,nilerr // most drafts are not announced
	}
	u, err := s.openUnfinished(place)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil //nolint:nilnil // it ends just now
	case err != nil:
		return nil, err
	case u.Outline.Version == v && u.Growing():
		return u, nil
	}
	return nil, u.Close() // its first line has not come yet, or nobody cuts it any more
}

// openUnfinished opens the draft in the directory place, and reads its outline,
// which is zero if there is none.
func (s *Store) openUnfinished(place string) (*Unfinished, error) {
	dir, err := s.root.OpenRoot(place)
	if err != nil {
		return nil, err
	}
	u := &Unfinished{store: s, dir: dir}
	if info, err := dir.Lstat(shard.OutlineName); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fs.ErrNotExist, dir.Close())
	}
	if u.file, err = dir.Open(shard.OutlineName); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	err = u.read(shard.MaxOutlineLine, func(line []byte) bool {
		u.Outline, _ = shard.ParseOutline(line) // one that cannot be read tells of no version
		return false
	})
	if err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return u, nil
}

// Read returns what has been told since it was called last, in parts if it is much.
// Lines that say nothing are passed over; after one without an end, nothing more is
// told.
func (u *Unfinished) Read() ([]shard.Known, error) {
	var known []shard.Known
	count := len(u.Outline.Manifest().Shards)
	err := u.read(readAtOnce, func(line []byte) bool {
		if k, err := shard.ParseKnown(line, count); err == nil && k.Shard > 0 {
			known = append(known, k)
		}
		return true
	})
	return known, err
}

// read reads about most bytes, if there are so many, and hands their lines to take,
// which returns whether it wants more of them now.
func (u *Unfinished) read(most int, take func(line []byte) bool) error {
	buf := make([]byte, shard.MaxOutlineLine)
	for more := true; more; {
		if end := bytes.IndexByte(u.line, '\n'); end >= 0 {
			line := u.line[:end]
			u.line = u.line[end+1:]
			more = take(line)
			continue
		}
		if u.spoiled = u.spoiled || len(u.line) > shard.MaxOutlineLine; u.spoiled || most <= 0 {
			return nil
		}
		n, err := u.file.Read(buf)
		most -= n
		u.line = append(u.line, buf[:n]...)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Growing reports whether somebody still cuts the draft, or publishes it: otherwise
// that has been done, or has failed.
func (u *Unfinished) Growing() bool {
	// Who holds the lock is who cuts this draft, unless that is discarded now, for which
	// its file goes first. It goes also when the draft is published, but a manifest comes
	// before that.
	for _, name := range []string{shard.OutlineName, manifestName} {
		if _, err := u.dir.Lstat(name); err == nil {
			return u.store.locked(writeLock)
		}
	}
	return false
}

// Published returns the manifest of the draft once that is on offer. The error matches
// [fs.ErrNotExist] before. When it is asked after [Unfinished.Growing] has returned
// false, it says whether the cut has gone well.
func (u *Unfinished) Published() (shard.Manifest, error) {
	v := u.Outline.Version
	if _, err := u.dir.Lstat(shard.OutlineName); err == nil {
		return shard.Manifest{}, fs.ErrNotExist // to read the distribution costs more
	}
	// Another draft may have been published under that number, if this one has failed.
	there, err := u.store.root.Stat(v.String())
	if err != nil {
		return shard.Manifest{}, err
	}
	if here, err := u.dir.Stat("."); err != nil || !os.SameFile(here, there) {
		return shard.Manifest{}, errors.Join(fs.ErrNotExist, err)
	}
	offers, err := u.store.Distribution()
	if err != nil {
		return shard.Manifest{}, err
	}
	f, err := u.dir.Open(manifestName)
	if err != nil {
		return shard.Manifest{}, err
	}
	defer f.Close()
	m, err := shard.ParseManifest(f)
	if err != nil {
		return shard.Manifest{}, err
	}
	if !slices.ContainsFunc(offers, distfile.Entry{Version: v, Digest: m.Digest}.Same) {
		return shard.Manifest{}, fs.ErrNotExist
	}
	u.published.Store(true)
	return m, nil
}

// Open opens shard number of the draft, wherever that is now. It does so after Close
// too, if the draft was published. The error matches [fs.ErrNotExist] if the shard is
// not here.
func (u *Unfinished) Open(number int) (*os.File, error) {
	f, err := u.dir.Open(shard.FileName(number))
	if errors.Is(err, os.ErrClosed) {
		if !u.published.Load() {
			return nil, fs.ErrNotExist
		}
		return u.store.open(u.Outline.Version, shard.FileName(number))
	}
	return f, err
}

// Close gives back what is open of the draft, but for its shards.
func (u *Unfinished) Close() error {
	return errors.Join(u.file.Close(), u.dir.Close())
}
