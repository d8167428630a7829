package catalog

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/store"
)

const (
	// LookEvery is how often [Catalog.Watch] looks at a quiet file. The system does not
	// report the writes of another machine on a network file system, may have no watch left
	// (inotify's limits are those of the whole machine), and ends a watch when the directory
	// is moved.
	LookEvery = time.Second

	// LookPause is the least time between two looks, so that a program that writes all the
	// time does not keep the server reading all the time.
	LookPause = 10 * time.Millisecond

	// settleTime is how long a file that looks new is read at every look, though it looks
	// the same: of two writes within a tick of the file system's clock, which is 2 s long on
	// FAT, the second one changes nothing but the content. The server's own clock measures
	// it, whatever the clock of a file server shows.
	settleTime = 3 * time.Second
)

// A Looker looks at a catalog's entries and its release.
type Looker interface {
	// Look is called when they may have changed.
	Look() error

	// IsLost reports whether the last look has failed, also one that was not called by
	// [Catalog.Watch].
	IsLost() bool
}

// Watch has l look when distribution.txt, release.txt or the board may have changed, and once at
// first, until ctx ends. It looks at the directory every so often, however quiet it is.
func (c *Catalog) Watch(ctx context.Context, l Looker, every time.Duration, logger *slog.Logger) {
	var events chan fsnotify.Event // nil, which never yields, without a watcher
	var failures chan error
	if watcher, err := newWatcher(c.store.Dir()); err == nil {
		defer func() { _ = watcher.Close() }()
		events, failures = watcher.Events, watcher.Errors
	} else {
		logger.Warn("data directory not watched", "interval", every, "err", err)
	}
	var (
		changed <-chan struct{}    // the board
		seen    glances            // of the files
		begun   time.Time          // when the last look began
		due     = time.NewTimer(0) // for the next one
		waiting = true             // for due
		failing bool               // since the last look
		ticker  = time.NewTicker(every)
	)
	defer due.Stop()
	defer ticker.Stop()
	for {
		wanted := false
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			name := filepath.Base(e.Name)
			wanted = name == distfile.FileName || name == release.FileName
		case err := <-failures:
			logger.Debug("changes of the data directory missed", "err", err)
			wanted = true
		case <-changed:
			changed = nil // it stays closed
			wanted = true
		case <-ticker.C:
			wanted = seen.fresh(c.store) || l.IsLost()
		case <-due.C:
			waiting = false
			begun = time.Now()
			_, changed = c.board.Listed() // before the look, which sees all changes until then
			err := l.Look()
			if err != nil && !failing {
				logger.Error("data directory failed", "task", "watch", "err", err)
			}
			failing = err != nil
		}
		if wanted && !waiting {
			waiting = true
			due.Reset(LookPause - time.Since(begun))
		}
	}
}

// newWatcher returns a watcher of the directory dir.
func newWatcher(dir string) (*fsnotify.Watcher, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	if err := watcher.Add(dir); err != nil {
		return nil, errors.Join(err, watcher.Close())
	}
	return watcher, nil
}

// glances are the looks of the files that are watched.
type glances struct{ distribution, release glance }

// fresh reports whether one of the files may have changed since the last call.
func (g *glances) fresh(st *store.Store) bool {
	distribution := g.distribution.fresh(look(st.StatDistribution()))
	release := g.release.fresh(look(st.StatRelease()))
	return distribution || release
}

// look returns how a file looks, or nil if that is not known: the next read returns the error.
func look(file fs.FileInfo, err error) fs.FileInfo {
	if err != nil {
		return nil
	}
	return file
}
