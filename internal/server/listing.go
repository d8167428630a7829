package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

const (
	// lookEvery is how often the file is looked at however quiet it is. The system
	// says nothing of what another machine writes on a network file system, may
	// have no watch left for us (inotify's limits are those of the whole machine),
	// and ends a watch when the directory is moved.
	lookEvery = time.Second

	// lookPause is the least time between two looks, so that somebody who writes
	// all the time does not keep us reading all the time.
	lookPause = 10 * time.Millisecond

	// settleTime is how long a file that looks new is read at every look, though it
	// looks the same: of two writes within a tick of the file system's clock, which
	// is 2 s long on FAT, the second one changes nothing but the content. It is
	// measured by our own clock, whatever that of a file server says.
	settleTime = 3 * time.Second
)

// A listing is the text of the distribution in one dialect: what is held, and what is
// arriving. What it says at the moment is got by [listing.look]; those who know that
// already wait in [listing.await] for it to change.
type listing struct {
	dialect Dialect
	store   *store.Store
	board   *relay.Board
	asked   atomic.Bool // somebody has looked; until then nobody need watch

	// over is closed when nobody may wait any more. Nil is for nobody at all, while
	// nothing runs [handler.watch].
	over <-chan struct{}

	mu    sync.Mutex              // held while looking, so that nobody goes back to what was; guards what follows
	last  *offer                  // that could be read
	files map[shard.Version]known // of Dialect03, see [listing.inDialect]

	latest atomic.Pointer[offer] // last, or nil while it cannot be read
}

// offer is a text that was, or is, on offer. It is shared, and not changed.
type offer struct {
	text     []byte
	digest   shard.Digest  // of text
	replaced chan struct{} // closed when there is another one
}

// newListing returns the listing of opts, of which Board is not nil, in a dialect.
func newListing(opts Options, dialect Dialect) *listing {
	return &listing{dialect: dialect, store: opts.Store, board: opts.Board}
}

// look returns what is on offer now, and lets those know who wait for it.
func (l *listing) look() (*offer, error) {
	l.asked.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	text, err := l.read()
	if err != nil {
		// Those who wait are left alone, it may pass.
		l.latest.Store(nil)
		return nil, err
	}
	before := l.last
	if digest := shard.Digest(sha256.Sum256(text)); before == nil || before.digest != digest {
		l.last = &offer{text: text, digest: digest, replaced: make(chan struct{})}
	}
	l.latest.Store(l.last)
	if before != nil && before != l.last {
		close(before.replaced)
	}
	return l.last, nil
}

// read makes the text from the disk and the board.
func (l *listing) read() ([]byte, error) {
	before, _ := l.board.Listed()
	held, err := l.store.Distribution()
	if err != nil {
		return nil, err
	}
	// A version that moves from the board to the disk, or back, while we read is seen
	// by one of the three. Were it by none, others would take it for retired.
	after, _ := l.board.Listed()
	arriving := union(before, after)
	offers, err := l.inDialect(union(held, arriving), arriving)
	return distfile.Encode(offers), err
}

// union returns the newest of what is held and arriving, which is ascending. Of the
// same version what is arriving counts, for it comes in place of what is held.
func union(held, arriving []distfile.Entry) []distfile.Entry {
	all := slices.DeleteFunc(held, func(e distfile.Entry) bool {
		_, found := slices.BinarySearchFunc(arriving, e, byVersion)
		return found
	})
	all = append(all, arriving...)
	slices.SortFunc(all, byVersion)
	return all[max(0, len(all)-distfile.MaxEntries):]
}

func byVersion(a, b distfile.Entry) int { return cmp.Compare(a.Version, b.Version) }

// await returns what is on offer as soon as that has none of the entity tags that
// stand in known, and after patience, or when ctx or the server ends, whatever it
// is. It calls held before it waits, if it does.
func (l *listing) await(ctx context.Context, known string, patience time.Duration, held func()) (*offer, error) {
	// What was seen last is good enough to wait for another, since watch will see the
	// rest. Everybody else has a look of their own.
	o := l.latest.Load()
	if o == nil || !listsTag(known, o.digest) || isClosed(l.over) {
		var err error
		if o, err = l.look(); err != nil || !listsTag(known, o.digest) {
			return o, err
		}
	}
	held()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for ended := false; !ended && listsTag(known, o.digest); {
		select {
		case <-o.replaced:
		case <-timer.C:
			ended = true
		case <-ctx.Done():
			ended = true
		case <-l.over:
			ended = true
		}
		// Thousands may come here at once, so only what cannot be known yet is looked for.
		if o = l.latest.Load(); o == nil {
			var err error
			if o, err = l.look(); err != nil {
				return nil, err
			}
		}
	}
	return o, nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// watch looks at the listings that somebody has asked for whenever there may be
// something new, until ctx ends.
func (h *handler) watch(ctx context.Context) {
	var events chan fsnotify.Event // nil, of which nothing ever comes, if there is no watcher
	var failures chan error
	if watcher, err := newWatcher(h.store.Dir()); err == nil {
		defer func() { _ = watcher.Close() }()
		events, failures = watcher.Events, watcher.Errors
	} else {
		h.logger.Warn("data directory not watched", "interval", h.every, "err", err)
	}
	var (
		changed <-chan struct{}    // the board
		seen    glance             // of the file
		begun   time.Time          // when the last look began
		due     = time.NewTimer(0) // for the next one
		waiting = true             // for due
		failing bool               // since the last look
		ticker  = time.NewTicker(h.every)
	)
	defer due.Stop()
	defer ticker.Stop()
	for {
		wanted := false
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			wanted = filepath.Base(e.Name) == distfile.FileName
		case err := <-failures:
			h.logger.Debug("changes of the data directory missed", "err", err)
			wanted = true
		case <-changed:
			changed = nil // it stays closed
			wanted = true
		case <-ticker.C:
			wanted = seen.fresh(h.store) || slices.ContainsFunc(h.listings, (*listing).isLost)
		case <-due.C:
			waiting = false
			begun = time.Now()
			_, changed = h.board.Listed() // before the look, which sees what was until then
			err := h.look()
			if err != nil && !failing {
				h.logger.Error("data directory failed", "task", "watch", "err", err)
			}
			failing = err != nil
		}
		if wanted && !waiting {
			waiting = true
			due.Reset(lookPause - time.Since(begun))
		}
	}
}

// look looks at the listings that somebody has asked for.
func (h *handler) look() error {
	var err error
	for _, l := range h.listings {
		if l.asked.Load() {
			_, failed := l.look()
			err = errors.Join(err, failed)
		}
	}
	return err
}

// isLost reports whether the listing could not be read when somebody looked last.
func (l *listing) isLost() bool { return l.asked.Load() && l.latest.Load() == nil }

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

// glance is what a file looked like from outside.
type glance struct {
	info  fs.FileInfo // nil if it was missing
	since time.Time   // when it was first seen like that
}

// fresh reports whether the distribution may say something else than it did at the
// last call: it looks different, or has not looked the same for long enough.
func (g *glance) fresh(st *store.Store) bool {
	info, err := st.StatDistribution()
	if err != nil {
		info = nil // why, those who read it will say
	}
	same := info == nil && g.info == nil || info != nil && g.info != nil && sameFile(info, g.info)
	if !same {
		g.info, g.since = info, time.Now()
	}
	return time.Since(g.since) < settleTime
}
