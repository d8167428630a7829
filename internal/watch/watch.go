// Package watch broadcasts the files that appear in a directory, or the directories there: each once,
// when it is complete. It refuses to know how a version is made of one, and readers.
//
// What a caller may lean on: a file of which no part has changed since it was found complete is published
// once, also if the process is killed meanwhile; and what has changed is published again, as another one.
package watch

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/shardcast/shardcast/internal/backoff"
	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

const (
	// glancePause is the pause between a change of a watched directory and the look at it,
	// which then sees the changes that follow at once.
	glancePause = 50 * time.Millisecond

	// reportedInterval is the pause between two looks at a directory of which the system
	// reports changes, but not those of other machines; unreportedInterval that at one of
	// which the system reports none.
	reportedInterval   = 5 * time.Second
	unreportedInterval = time.Second

	// firstRetry is the pause before a file that could not be broadcast is tried again; it
	// doubles up to lastRetry.
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// Run broadcasts by o the files or directories of w until ctx ends, each once when it is complete,
// in the order of their times, of a directory its newest file's, and then of their names. It
// keeps a record of them in st, the data directory of o, whose one server the caller must be, so that
// files that appear while no origin runs follow.
//
// A file is complete when its size, its time and its inode have been the same for
// w.Settle, or w.Marker exists and is no older than the file, and, where the system reports
// it, no process has the file open for writing. A file that looks different is another file,
// and broadcast again. One that changes while it is being cut is never published. A directory is
// complete when that is so of all its files together, or w.Marker is in it and no older than any.
//
// Run logs failures, and tries again.
func Run(ctx context.Context, o *origin.Origin, st *store.Store, w Options) {
	t := newWatcher(o, st, w)
	t.logger.Info("watching", "dir", w.Dir, "glob", w.Glob, "marker", w.Marker)
	var events <-chan fsnotify.Event // nil, which never yields, if the system reports nothing
	var failures <-chan error
	if !w.unreported {
		var err error
		if t.notify, err = fsnotify.NewWatcher(); err == nil {
			defer func() { _ = t.notify.Close() }()
			events, failures = t.notify.Events, t.notify.Errors
		} else {
			t.logger.Warn("changes not reported by the system", "interval", unreportedInterval, "err", err)
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
	defer t.close()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			if w.tells(e) {
				sooner(glancePause)
			}
		case err := <-failures:
			t.logger.Debug("changes of the watched directory missed", "err", err)
			sooner(glancePause)
		case <-due.C:
			wait := t.round(ctx)
			next = time.Now().Add(wait)
			due.Reset(wait)
		}
	}
}

// tells reports whether after e a file or directory may be complete. One that is being written
// causes many other events, and each round looks at it anyway until it settles.
func (w Options) tells(e fsnotify.Event) bool {
	if w.Trees && filepath.Dir(e.Name) != filepath.Clean(w.Dir) {
		return filepath.Base(e.Name) == w.Marker
	}
	return !e.Has(fsnotify.Write) && !e.Has(fsnotify.Chmod) || filepath.Base(e.Name) == w.Marker
}

// watcher is one [Run].
type watcher struct {
	watch    Options
	origin   *origin.Origin
	store    *store.Store
	logger   *slog.Logger
	root     *os.Root // watch.Dir at the last look, or nil
	record   *record  // nil until it has been read
	notify   *fsnotify.Watcher
	reported map[string]bool      // directories of whose changes the system reports
	seen     map[string]*sighting // by name, the files that are to be broadcast
	alone    map[string]string    // by name, why files are left alone
	failing  bool                 // to look
	torn     bool                 // a directory, which was said
}

func newWatcher(o *origin.Origin, st *store.Store, w Options) *watcher {
	return &watcher{
		watch: w, origin: o, store: st, logger: cmp.Or(w.Logger, slog.New(slog.DiscardHandler)),
		seen: make(map[string]*sighting), reported: make(map[string]bool),
	}
}

// sighting is the look of a file, and the outcome of its broadcasts.
type sighting struct {
	looks   likeness
	since   time.Time // when it first looked like that
	retries backoff.Doubling
	retry   time.Time // when it may be tried
	open    bool      // for writing, which was said
}

// round broadcasts the first of the files that are complete, if any, and returns how
// long to wait for the next round.
func (t *watcher) round(ctx context.Context) (wait time.Duration) {
	found, err := t.look()
	if err != nil && !t.failing {
		level := slog.LevelError
		if errors.Is(err, fs.ErrNotExist) {
			level = slog.LevelWarn // it may come back
		}
		t.logger.Log(ctx, level, "watched directory failed", "dir", t.watch.Dir, "err", err)
	}
	t.failing = err != nil
	if t.record == nil {
		return unreportedInterval
	}
	wait = reportedInterval
	if len(t.reported) == 0 || t.failing {
		wait = unreportedInterval
	}
	now := time.Now()
	t.sight(found, now)
	for _, f := range found {
		s, ok := t.seen[f.name]
		if !ok {
			continue
		}
		ready := s.since.Add(t.watch.Settle)
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

// close gives back the directory of the last look.
func (t *watcher) close() {
	if t.root != nil {
		_ = t.root.Close()
		t.root = nil
	}
}

// look returns the files in the directory, and the errors of a part of it.
func (t *watcher) look() (files []candidate, err error) {
	if t.record == nil {
		record, err := readRecord(t.store)
		if err != nil {
			return nil, err
		}
		t.record = record
	}
	// Another directory may have the name since the last look.
	t.close()
	if t.root, err = os.OpenRoot(t.watch.Dir); err != nil {
		return nil, err
	}
	found, err := t.watch.look(t.root, t.store.Dir())
	if t.notify != nil && t.subscribe(found.dirs) && err == nil {
		// Files that came before the system began to report are in a second look.
		found, err = t.watch.look(t.root, t.store.Dir())
	}
	for name, why := range found.alone {
		if t.alone[name] != why {
			t.logger.Warn("file left alone", "file", name, "reason", why)
		}
	}
	t.alone = found.alone
	if found.torn != "" && !t.torn {
		t.torn = true
		t.logger.Warn("files of one directory are published one by one", "dir", found.torn,
			"remedy", "--watch-depth tree publishes each directory as one version")
	}
	return found.files, err
}

// subscribe has the system report the changes of dirs, and returns whether there is a new one
// among them.
func (t *watcher) subscribe(dirs []string) (more bool) {
	reported := make(map[string]bool)
	for _, dir := range dirs {
		if t.notify.Add(dir) == nil {
			reported[dir] = true
			more = more || !t.reported[dir]
		}
	}
	t.reported = reported
	return more
}

// sight keeps the looks, at the time now, of the files that are to be broadcast.
func (t *watcher) sight(found []candidate, now time.Time) {
	before := t.seen
	t.seen = make(map[string]*sighting)
	for _, f := range found {
		if t.record.has(f.name, f.looks) {
			continue
		}
		s := before[f.name]
		if s == nil {
			s = &sighting{retries: backoff.Doubling{First: firstRetry, Most: lastRetry}}
		}
		if s.looks != f.looks {
			s.looks, s.since = f.looks, now
		}
		t.seen[f.name] = s
	}
	if len(t.record.Files) > len(found)+maxGone && !t.failing {
		there := make(map[string]bool, len(found))
		for _, f := range found {
			there[f.name] = true
		}
		t.record.forget(func(name string) bool { return there[name] })
	}
}

// errOpen means that a file looks complete, and is not.
var errOpen = errors.New("it is open for writing")

// broadcast broadcasts the file f from the descriptor by which it has checked that it is
// that file.
func (t *watcher) broadcast(ctx context.Context, f candidate) error {
	opened, err := t.watch.open(t.root, f)
	if err != nil {
		return err
	}
	as := origin.Options{Labels: t.watch.Labels, Lineage: t.watch.Lineage, DeltaBases: t.watch.DeltaBases}
	recorded := false
	_, err = t.origin.BroadcastOpened(ctx, opened, as, func(version shard.Version, digest shard.Digest) error {
		recorded = true
		return t.record.begin(t.store, f, version, digest)
	})
	if recorded {
		if bad := t.record.settle(t.store, f.name, err == nil); bad != nil {
			// The record has it in memory, and is written with the next file; or the listing
			// decides after the next start.
			t.logger.Error("data directory failed", "task", "watch", "err", bad)
		}
	}
	return err
}

// take broadcasts the file f. If that fails, s has the time of the next try.
func (t *watcher) take(ctx context.Context, f candidate, s *sighting) {
	err := t.broadcast(ctx, f)
	switch {
	case err == nil:
		return
	case ctx.Err() != nil:
		return
	case errors.Is(err, errOpen):
		s.retry = time.Now().Add(t.watch.Settle)
		level := slog.LevelInfo
		if s.open {
			level = slog.LevelDebug
		}
		s.open = true
		t.logger.Log(ctx, level, "file is open for writing", "file", f.name, "err", err)
		return
	}
	wait := s.retries.Next()
	s.retry = time.Now().Add(wait)
	if errors.Is(err, shard.ErrChanged) || errors.Is(err, os.ErrNotExist) {
		t.logger.Warn("file not broadcast", "file", f.name, "retry", wait, "err", err)
		return
	}
	t.logger.Error("file not broadcast", "file", f.name, "retry", wait, "err", err)
}
