package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

// DefaultKeep is how many versions a follow keeps if nothing else is said.
const DefaultKeep = 2

// A Follow is what to keep in a directory, as new versions come.
type Follow struct {
	// Dir is the directory; it is made if it is missing.
	Dir string

	// Template is where in it a version goes. Empty means [DefaultTemplate].
	Template string

	// Keep is how many versions are kept. Zero means [DefaultKeep].
	Keep int

	// From has the versions from that one on that are on offer at first come first, in
	// order. Zero means none but the newest.
	From shard.Version

	// All has each version come, in order, not only the newest.
	All bool

	// SkipStale has a download broken off when a newer version is on offer.
	SkipStale bool

	// Marker is the name of an empty file to be made beside a version when it is
	// complete. Empty means none.
	Marker string

	// Link is the name, in Dir, of a symbolic link to the newest version's file. Empty
	// means none.
	Link string

	// Afresh has what an earlier download left not used.
	Afresh bool

	// Progress is called as in [fetch.Task].
	Progress func(fetch.Progress)
}

// Check returns an error if one of the options is none.
func (f Follow) Check() error {
	t, err := parseTemplate(cmp.Or(f.Template, DefaultTemplate))
	if err != nil {
		return err
	}
	for _, name := range []string{f.Marker, f.Link} {
		if name == "" {
			continue
		}
		if err := checkName(name); err != nil {
			return err
		}
	}
	switch {
	case f.Keep < 0:
		return fmt.Errorf("%d versions to keep", f.Keep)
	case f.All && f.SkipStale:
		return errors.New("all versions, and to skip those that are stale, are not to be had together")
	case f.Marker != "" && !t.ownDir():
		return fmt.Errorf("a marker beside each version wants {version} or {n} in a directory of the template %q", string(t))
	case f.Link != "" && t.begins(f.Link):
		return fmt.Errorf("link %s: the template %q has a directory of that name", f.Link, string(t))
	}
	return nil
}

// A Followed is a version that has come.
type Followed struct {
	distfile.Entry

	// Manifest is the version's, without the shards, whose number is in Entry.Count.
	Manifest shard.Manifest

	// Path is the file.
	Path string

	// Progress is how the download went, or that all was there.
	Progress fetch.Progress
}

// Follow keeps the newest version in a directory until ctx ends, and calls yield for
// each that has come when all of it is in place: file, marker and link. If yield
// returns true it goes on, and otherwise ends. A version counts as delivered when yield
// has returned while ctx had not ended; else it is delivered again by the next Follow
// of the directory, as it is after a crash.
//
// What comes between is waited for: servers that are gone, a disk that is full. A
// version that is not to be had, because it was retired, because its bytes are wrong
// everywhere, because a file that is not ours has its place, or because all attempts
// failed three times, is passed over: yield is called with its number and the error,
// and the next one is taken. A later one than what was passed over ends that; but
// where nothing newer comes, what did not fail for good is tried again after a while.
//
// Follow returns what ended ctx, nil if yield did, and otherwise an error of the
// directory's.
func (c *Client) Follow(ctx context.Context, f Follow, yield func(Followed, error) bool) error {
	if err := f.Check(); err != nil {
		return err
	}
	f.Keep, f.Template = cmp.Or(f.Keep, DefaultKeep), cmp.Or(f.Template, DefaultTemplate)
	s, err := openShelf(ctx, f.Dir, c.logger)
	if err != nil {
		return fmt.Errorf("follow into %s: %w", f.Dir, err)
	}
	r := &following{
		Client: c, Follow: f, shelf: s, template: template(f.Template), yield: yield,
		news: make(chan struct{}, 1), setbacks: make(map[distfile.Entry]setback),
	}
	var group sync.WaitGroup
	defer group.Wait()
	asking, stop := context.WithCancel(ctx)
	defer stop()
	group.Go(func() {
		c.pool.Follow(asking, pollEvery, func() {
			select {
			case r.news <- struct{}{}:
			default: // it is known that there are some
			}
		})
	})
	if err = r.run(ctx); errors.Is(err, errEnd) {
		err = nil
	}
	if err := errors.Join(err, s.close()); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("follow into %s: %w", f.Dir, err)
	}
	return nil
}

// following is a Follow under way.
type following struct {
	*Client
	Follow
	*shelf

	template template
	yield    func(Followed, error) bool
	news     chan struct{}
	heard    bool             // what is on offer is known
	offers   []distfile.Entry // when a version was last chosen
	backlog  shard.Version    // up to which versions come in order
	setbacks map[distfile.Entry]setback
	isFull   bool // the disk, when last tried
}

// errEnd is for when yield has had enough.
var errEnd = errors.New("enough")

func (r *following) run(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	last := "none"
	if r.Last > 0 {
		last = r.Last.String()
	}
	r.Client.logger.Info("following", "dir", r.Dir, "last", last, "held", len(r.Held))
	for ctx.Err() == nil {
		if err := r.step(ctx); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// prepare makes good what an earlier run has left undone.
func (r *following) prepare(ctx context.Context) error {
	if r.Link != "" {
		if err := r.checkLink(r.Link); err != nil {
			return err
		}
	}
	if err := r.patiently(ctx, func() error { return r.check(ctx) }); err != nil {
		return err
	}
	for _, h := range r.Held {
		r.pool.Know(h.Version, h.Manifest)
	}
	for {
		h, ok := r.pending()
		if !ok {
			return nil
		}
		if err := r.deliver(ctx, h, fetch.Progress{}); err != nil {
			return err
		}
	}
}

// step takes the next version, or waits for something to happen.
func (r *following) step(ctx context.Context) error {
	e, wait, err := r.next(ctx)
	switch {
	case err != nil:
		return err
	case e == (distfile.Entry{}):
		return r.await(ctx, wait)
	}
	if b := r.Begun; b != nil && !b.is(e) {
		r.abandon()
	}
	went, err := r.fetch(ctx, e)
	switch {
	case err == nil:
		r.isFull = false
		delete(r.setbacks, e)
		if err := r.patiently(ctx, r.save); err != nil {
			return err
		}
		h, ok := r.pending()
		if !ok {
			return fmt.Errorf("%s is gone", e.Version)
		}
		return r.deliver(ctx, h, went)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errStale):
		r.Client.logger.Info("newer version on offer", "version", e.Version.String())
		return nil
	}
	return r.failed(e, err)
}

// await waits until there is news, or so long.
func (r *following) await(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.news:
		for e, s := range r.setbacks {
			if errors.Is(s.err, fetch.ErrUnreachable) {
				delete(r.setbacks, e) // somebody may be back
			}
		}
	case <-timer.C:
	}
	return nil
}

// errStale is why a download ends for which a newer version is taken.
var errStale = errors.New("a newer version is on offer")

// fetch downloads e, to where the template says.
func (r *following) fetch(ctx context.Context, e distfile.Entry) (fetch.Progress, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel(nil)
	if r.SkipStale && e.Version > r.backlog {
		watching.Go(func() {
			for r.await(ctx, forever) == nil {
				// One that is passed over would not be taken now.
				newer := func(o distfile.Entry) bool { return o.Version > e.Version && !r.setbacks[o].aside }
				if slices.ContainsFunc(r.pool.Offers(), newer) {
					cancel(errStale)
				}
			}
		})
	}
	m, went, err := r.Download(ctx, Download{
		Entry: e, Path: r.Dir, Afresh: r.Afresh, Progress: r.Progress,
		place: func(m shard.Manifest) (*os.Root, string, error) { return r.place(ctx, e, m) },
	})
	if errors.Is(err, errHere) {
		return fetch.Progress{}, nil
	}
	if err != nil {
		return went, err
	}
	r.pool.Know(e.Version, m)
	return went, r.complete(m)
}

// forever is a time to wait that does not end.
const forever = time.Duration(math.MaxInt64)

// place is where e goes, whose manifest is m.
func (r *following) place(ctx context.Context, e distfile.Entry, m shard.Manifest) (*os.Root, string, error) {
	b := copied{
		Version: e.Version, Manifest: m, Shards: len(m.Shards), Offered: e.Digest,
		Path: r.template.path(e.Version, fileName(e.Version, m.Name, r.Marker)),
	}
	b.Manifest.Shards = nil
	b.Manifest.Digest = cmp.Or(m.Digest, e.Digest)
	dir, err := r.begin(ctx, b, r.Marker)
	return dir, path.Base(b.Path), err
}

// deliver makes what is beside h, which is in place, and hands it over.
func (r *following) deliver(ctx context.Context, h copied, went fetch.Progress) error {
	logger := r.Client.logger.With("version", h.Version.String())
	if err := r.patiently(ctx, func() error { return r.mark(h) }); err != nil {
		logger.Error("marker not written", "err", err)
	}
	if r.Link != "" {
		if err := r.patiently(ctx, func() error { return r.point(r.Link, h) }); err != nil {
			logger.Error("link not switched", "err", err)
		}
	}
	if err := r.trim(ctx, r.Keep); err != nil {
		return err
	}
	if err := r.patiently(ctx, r.save); err != nil {
		return err
	}
	if went.Version == 0 {
		went = fetch.Progress{Version: h.Version, Size: h.Manifest.Size, Done: h.Manifest.Size, Resumed: h.Manifest.Size}
	}
	more := r.yield(Followed{
		Entry:    distfile.Entry{Version: h.Version, Digest: h.Manifest.Digest, Count: h.Shards},
		Manifest: h.Manifest, Path: r.full(h.Path), Progress: went,
	}, nil)
	if ctx.Err() == nil {
		taken := func() error { return r.delivered(h, r.offers) }
		if more {
			return r.patiently(ctx, taken)
		}
		if err := taken(); err != nil {
			return err
		}
	}
	if !more {
		return errEnd
	}
	return context.Cause(ctx)
}

// fullPause is the time between two looks whether a full disk has room again.
const fullPause = 2 * time.Second

// patiently does what needs room on the disk, as soon as there is some.
func (r *following) patiently(ctx context.Context, do func() error) error {
	for {
		err := do()
		if !disk.IsFull(err) {
			r.isFull = r.isFull && err != nil
			return err
		}
		r.noRoom(err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(fullPause):
		}
	}
}

// noRoom says that the disk is full, if that is new.
func (r *following) noRoom(err error) {
	if !r.isFull {
		r.Client.logger.Warn("disk is full, waiting for room", "dir", r.Dir, "err", err)
	}
	r.isFull = true
}
