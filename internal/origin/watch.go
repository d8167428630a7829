package origin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
)

const (
	// glancePause is how long is waited after something has happened in a watched
	// directory, for what happens next to be seen at the same look.
	glancePause = 50 * time.Millisecond

	// toldInterval and untoldInterval are between two looks at a directory where the
	// system tells of changes, which it does not for those of other machines, and where
	// it does not.
	toldInterval   = 5 * time.Second
	untoldInterval = time.Second

	// firstRetry is when a file that could not be broadcast is tried again; each time
	// after that it is twice as long, up to lastRetry.
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// A Watch says which files [Origin.Watch] broadcasts.
type Watch struct {
	// Dir is the directory in which they appear.
	Dir string

	// Glob is what their names match, as [path.Match] has it; with a slash, their
	// names in the directories of Dir. Names that begin with a dot never match.
	Glob string

	// Marker is the name of a file that has to be beside one, in its directory, before
	// it is broadcast. Empty is for none.
	Marker string

	// Settle is how long a file must not have changed before it is complete.
	Settle time.Duration

	untold bool // for tests: as if the system told nothing of changes
}

// Check returns an error if w is none that [Origin.Watch] of the data directory data
// can follow. Neither directory has to be there.
func (w Watch) Check(data string) error {
	if _, err := path.Match(w.Glob, ""); err != nil || w.Glob == "" {
		return fmt.Errorf("glob %q: want a pattern such as '*.safetensors'", w.Glob)
	}
	parts := strings.Split(w.Glob, "/")
	for _, part := range parts {
		if part == "" || strings.HasPrefix(part, ".") || len(parts) > 2 {
			return fmt.Errorf("glob %q: want a name, or a directory's and a name, neither of which begins with a dot", w.Glob)
		}
	}
	if w.Marker != filepath.Base(w.Marker) && w.Marker != "" {
		return fmt.Errorf("marker %q: want a name without a directory", w.Marker)
	}
	if w.Settle <= 0 {
		return fmt.Errorf("files settle for %s: want more than nothing", w.Settle)
	}
	for dir := absolute(w.Dir); ; dir = filepath.Dir(dir) {
		if same(dir, absolute(data)) {
			return fmt.Errorf("%s is in the data directory %s, where what is published would be published again", w.Dir, data)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// absolute returns the path name from the root on, without links as far as it is there.
func absolute(name string) string {
	if full, err := filepath.Abs(name); err == nil {
		name = full
	}
	if full, err := filepath.EvalSymlinks(name); err == nil {
		name = full
	}
	return name
}

// same reports whether a and b are one directory.
func same(a, b string) bool {
	if a == b {
		return true
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// Watch broadcasts the files that w is about until ctx ends, each once when it is
// complete, the one that was written to first before others, and by name those that
// were at the same time. It remembers which in the data directory, whose one server
// the caller must be, so that files that appear while nobody watches follow.
//
// A file is complete when its size, its time and its inode have been the same for
// w.Settle, or w.Marker is there and no older than the file, and, where that can be
// told, nobody has it open for writing. A file with other ones is another file, and
// broadcast again. One that changes while it is being cut is never published.
//
// What goes wrong is logged, and tried again.
func (o *Origin) Watch(ctx context.Context, w Watch) {
	o.logger.Info("watching", "dir", w.Dir, "glob", w.Glob, "marker", w.Marker)
	t := &watcher{Watch: w, origin: o, seen: make(map[string]*sighting), told: make(map[string]bool)}
	var events <-chan fsnotify.Event // nil, of which nothing ever comes, if the system tells nothing
	var failures <-chan error
	if !w.untold {
		var err error
		if t.notify, err = fsnotify.NewWatcher(); err == nil {
			defer func() { _ = t.notify.Close() }()
			events, failures = t.notify.Events, t.notify.Errors
		} else {
			o.logger.Warn("changes not told by the system", "interval", untoldInterval, "err", err)
		}
	}
	due := time.NewTimer(0)
	defer due.Stop()
	next := time.Now() // when due is
	sooner := func(wait time.Duration) {
		if at := time.Now().Add(wait); at.Before(next) {
			next = at
			due.Reset(wait)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			// Of files that are being written there is no end of news, and they are looked
			// at anyway until they settle.
			if !e.Has(fsnotify.Write) && !e.Has(fsnotify.Chmod) || filepath.Base(e.Name) == w.Marker {
				sooner(glancePause)
			}
		case err := <-failures:
			o.logger.Debug("changes of the watched directory missed", "err", err)
			sooner(glancePause)
		case <-due.C:
			wait := t.round(ctx)
			next = time.Now().Add(wait)
			due.Reset(wait)
		}
	}
}

// watcher is one run of [Origin.Watch].
type watcher struct {
	Watch

	origin  *Origin
	record  *record // nil until it has been read
	notify  *fsnotify.Watcher
	told    map[string]bool      // directories of whose changes the system tells
	seen    map[string]*sighting // by name, of the files that are to be broadcast
	failing bool                 // to look
}

// sighting is how a file looked, and how it went with it.
type sighting struct {
	likeness

	since    time.Time // when it was first seen like that
	failures int
	retry    time.Time // when it may be tried
}

// round broadcasts the first of the files that are complete, if any, and returns how
// long to wait for the next round.
func (t *watcher) round(ctx context.Context) (wait time.Duration) {
	found, err := t.look()
	if err != nil && !t.failing {
		t.origin.logger.Error("watched directory failed", "dir", t.Dir, "err", err)
	}
	t.failing = err != nil
	if t.record == nil {
		return untoldInterval
	}
	wait = toldInterval
	if len(t.told) == 0 || t.failing {
		wait = untoldInterval
	}
	now := time.Now()
	t.sight(found, now)
	for _, f := range found {
		s, ok := t.seen[f.name]
		if !ok {
			continue
		}
		ready := s.since.Add(t.Settle)
		if f.marked {
			ready = now
		}
		if s.retry.After(ready) {
			ready = s.retry
		}
		if left := ready.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		t.take(ctx, f, s)
		return 0
	}
	return wait
}

// look returns what there is in the directory, and what went wrong with a part of it.
func (t *watcher) look() ([]candidate, error) {
	if t.record == nil {
		record, err := readRecord(t.origin.store)
		if err != nil {
			return nil, err
		}
		t.record = record
	}
	found, dirs, err := t.candidates(t.origin.store.Dir())
	if t.notify == nil {
		return found, err
	}
	told, more := make(map[string]bool), false
	for _, dir := range dirs {
		if t.notify.Add(dir) == nil {
			told[dir] = true
			more = more || !t.told[dir]
		}
	}
	t.told = told
	if more && err == nil {
		// What has come in between is not told of, and seen in a second look.
		found, _, err = t.candidates(t.origin.store.Dir())
	}
	return found, err
}

// sight remembers how the files that are to be broadcast look at the time now.
func (t *watcher) sight(found []candidate, now time.Time) {
	before := t.seen
	t.seen = make(map[string]*sighting)
	for _, f := range found {
		if t.record.has(f.name, f.likeness) {
			continue
		}
		s := before[f.name]
		if s == nil {
			s = new(sighting)
		}
		if s.likeness != f.likeness {
			s.likeness, s.since = f.likeness, now
		}
		t.seen[f.name] = s
	}
	if len(t.record.Files) > len(found)+maxGone {
		there := make(map[string]bool, len(found))
		for _, f := range found {
			there[f.name] = true
		}
		t.record.forget(func(name string) bool { return there[name] })
	}
}

// errOpen means that a file is not complete, though it looks like it.
var errOpen = errors.New("it is open for writing")

// take broadcasts the file f. If that fails, s says when to try again.
func (t *watcher) take(ctx context.Context, f candidate, s *sighting) {
	recorded := false
	_, err := t.origin.broadcast(ctx, filepath.Join(t.Dir, filepath.FromSlash(f.name)), terms{
		accept: func(src *source) error {
			if likenessOf(src.info) != f.likeness {
				return shard.ErrChanged
			}
			if disk.BeingWritten(src.File) {
				return errOpen
			}
			return nil
		},
		record: func(version shard.Version, digest shard.Digest) error {
			recorded = true
			return t.record.begin(t.origin.store, f, version, digest)
		},
	})
	if recorded {
		if bad := t.record.settle(t.origin.store, f.name, err == nil); bad != nil {
			// Known it is all the same, and written with the next file, or found out after
			// the next start.
			t.origin.logger.Error("data directory failed", "task", "watch", "err", bad)
		}
	}
	switch {
	case err == nil:
		return
	case ctx.Err() != nil:
		return
	case errors.Is(err, errOpen):
		s.retry = time.Now().Add(t.Settle)
		t.origin.logger.Debug("file is open for writing", "file", f.name)
		return
	}
	wait := min(firstRetry<<min(s.failures, 10), lastRetry)
	s.failures++
	s.retry = time.Now().Add(wait)
	if errors.Is(err, shard.ErrChanged) || errors.Is(err, os.ErrNotExist) {
		t.origin.logger.Warn("file not broadcast", "file", f.name, "retry", wait, "err", err)
		return
	}
	t.origin.logger.Error("file not broadcast", "file", f.name, "retry", wait, "err", err)
}
