package server

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signal"
	"github.com/shardcast/shardcast/internal/wire"
)

// listings are the endpoints of distribution.txt and release.txt.
type listings struct {
	root     *listing   // of distribution.txt, where the path names no dialect
	dialects []*listing // where it names one, by dialect
	release  *listing
	hashing  *hashing
	over     <-chan struct{}
	logger   *slog.Logger
}

func newListings(opts Options, over <-chan struct{}) *listings {
	l := &listings{
		root: newListing(opts.Dialect.besideRelease, opts.Catalog, over), over: over, logger: opts.Logger,
		release: newListing(releaseOffer, opts.Catalog, over),
	}
	for d := range dialects {
		l.dialects = append(l.dialects, newListing(d.alone, opts.Catalog, over))
	}
	return l
}

// distribution answers with the distribution.
func (ls *listings) distribution(w http.ResponseWriter, r *http.Request, t target) error {
	if t.dialect == Dialect03 {
		ls.hashing.await(r.Context())
	}
	if t.ours {
		return ls.answer(w, r, ls.root)
	}
	return ls.answer(w, r, ls.dialects[t.dialect])
}

// signed answers with release.txt, which is missing where the path names a dialect.
func (ls *listings) signed(w http.ResponseWriter, r *http.Request, t target) error {
	if !t.ours {
		return fs.ErrNotExist
	}
	return ls.answer(w, r, ls.release)
}

// answer answers with l: now or, where the client prefers that, when it has news for the
// client (RFC 7240, section 4.3). An answer without need to wait also states that the server
// would have waited.
func (ls *listings) answer(w http.ResponseWriter, r *http.Request, l *listing) error {
	patience, ok := ls.mayHold(r)
	if !ok {
		o, err := l.look()
		if err == nil {
			err = o.send(w, r)
		}
		return err
	}
	known := r.Header.Get("If-None-Match")
	if patience == 0 {
		known = ""
	}
	// A client that has gone gets an answer, too, for it may only have closed its side of the
	// connection, and would take no answer for an empty one.
	o, err := l.await(r.Context(), known, patience, func() {
		ls.logger.Debug("request held", "path", r.URL.Path, "client", r.RemoteAddr, "wait", patience)
	})
	if err != nil {
		return err
	}
	w.Header().Set("Preference-Applied", wire.PreferWait(patience))
	if isClosed(ls.over) {
		w.Header().Set("Connection", "close")
	}
	return o.send(w, r)
}

// mayHold returns how long the client lets the server hold a request, and whether the
// server can.
func (ls *listings) mayHold(r *http.Request) (patience time.Duration, ok bool) {
	patience, ok = wire.PreferredWait(r.Header.Values("Prefer"))
	// The server notices the end of a connection only after a request's body.
	return patience, ok && ls.over != nil && r.Method == http.MethodGet && r.ContentLength == 0
}

// Look has the listings that a client has asked for look at the catalog.
func (ls *listings) Look() error {
	var err error
	for _, l := range ls.all() {
		if l.asked.Load() {
			_, failed := l.look()
			err = errors.Join(err, failed)
		}
	}
	return err
}

// IsLost reports whether the last look of a listing has failed.
func (ls *listings) IsLost() bool { return slices.ContainsFunc(ls.all(), (*listing).isLost) }

func (ls *listings) all() []*listing { return append(slices.Clone(ls.dialects), ls.root, ls.release) }

// A listing is distribution.txt in one dialect, beside the release or not, or release.txt. [listing.look] returns it;
// clients that know it already wait in [listing.await] for it to change.
type listing struct {
	read    func(*catalog.Catalog) (offer, error)
	catalog *catalog.Catalog
	over    <-chan struct{} // closed when no request may be held any more, or nil if none may be
	asked   atomic.Bool     // a client has asked; no look is needed before

	mu   sync.Mutex // guards last, and is held during a look, so that no look undoes a later one
	last *offer     // that could be read

	latest  atomic.Pointer[offer] // last, or nil while it cannot be read
	changed signal.Signal         // of last, but for the first
}

func newListing(read func(*catalog.Catalog) (offer, error), c *catalog.Catalog, over <-chan struct{}) *listing {
	return &listing{read: read, catalog: c, over: over}
}

// offer is a text that was, or is, on offer. It is shared, and never changes.
type offer struct {
	text    []byte
	tag     string       // its entity tag, without quotes, or empty without a text
	release shard.Digest // of release.txt, or zero
}

// releaseOffer returns release.txt, or the zero value without one.
func releaseOffer(c *catalog.Catalog) (offer, error) {
	r, err := c.Release()
	if errors.Is(err, fs.ErrNotExist) {
		return offer{}, nil
	}
	return offer{text: r.Text, tag: r.Digest.String(), release: r.Digest}, err
}

// send answers with o. The error matches [fs.ErrNotExist] if there is no text.
func (o *offer) send(w http.ResponseWriter, r *http.Request) error {
	if o.tag == "" {
		return fs.ErrNotExist
	}
	if o.release != (shard.Digest{}) {
		w.Header().Set(wire.ReleaseHeader, o.release.String())
	}
	serveTagged(w, r, plainText, o.tag, bytes.NewReader(o.text))
	return nil
}

// recent returns the text of the last look, or looks if that has failed.
func (l *listing) recent() (*offer, error) {
	if o := l.latest.Load(); o != nil {
		return o, nil
	}
	return l.look()
}

// look returns the current text, and wakes the requests that wait for another one.
func (l *listing) look() (*offer, error) {
	l.asked.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	now, err := l.read(l.catalog)
	if err != nil {
		l.latest.Store(nil) // requests go on waiting: the error may pass
		return nil, err
	}
	before := l.last
	if before == nil || before.tag != now.tag {
		l.last = &now
	}
	l.latest.Store(l.last)
	if before != nil && before != l.last {
		l.changed.Raise()
	}
	return l.last, nil
}

// isLost reports whether the last look has failed.
func (l *listing) isLost() bool { return l.asked.Load() && l.latest.Load() == nil }

// await returns the text as soon as it has none of the entity tags in known, and after
// patience, or when ctx or the server ends, whatever it is. It calls held before it waits,
// if it does.
func (l *listing) await(ctx context.Context, known string, patience time.Duration, held func()) (*offer, error) {
	changed := l.changed.Wait() // before the text is looked at
	// The text of the last look is good enough to wait for another, since the catalog's Watch
	// will see the rest. All other requests have a look of their own.
	o := l.latest.Load()
	if o == nil || !listsTag(known, o.tag) || isClosed(l.over) {
		var err error
		if o, err = l.look(); err != nil || !listsTag(known, o.tag) {
			return o, err
		}
	}
	held()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for ended := false; !ended && listsTag(known, o.tag); {
		select {
		case <-changed:
			changed = l.changed.Wait()
		case <-timer.C:
			ended = true
		case <-ctx.Done():
			ended = true
		case <-l.over:
			ended = true
		}
		// Thousands may come here at once, so only one that finds no text looks again.
		var err error
		if o, err = l.recent(); err != nil {
			return nil, err
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

// listsTag reports whether an entity tag is in the list, weak or not (RFC 9110, sections
// 8.8.3.2 and 13.1.2). "*", which means any text there may be, lists none, so that none is
// worth waiting for.
func listsTag(list, wanted string) bool {
	for {
		list = strings.TrimPrefix(strings.TrimLeft(list, " \t,"), "W/")
		opaque, ok := strings.CutPrefix(list, `"`)
		tag, rest, closed := strings.Cut(opaque, `"`)
		if !ok || !closed {
			return false
		}
		if tag == wanted {
			return true
		}
		list = rest
	}
}
