package follow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/lookup"
	"github.com/shardcast/shardcast/internal/record"
	"github.com/shardcast/shardcast/internal/shard"
)

// run is one call of [Run]: it takes one version after the other.
type run struct {
	opts     Options
	dir      *directory
	template template
	choice   *choice
	yield    func(Delivery, error) bool
	news     chan struct{}

	started bool             // the first choice was made
	offers  []distfile.Entry // at the last choice
	passed  passed
	full    bool // the disk, at the last attempt

	doubted    time.Time      // when it was last said that the publisher's word does not count
	refused    distfile.Entry // the newest version when a restart was refused last, or zero
	refusedAt  time.Time
	descending descending

	vanished bool          // no server lists the last version, and not enough say why
	stayed   shard.Version // the last version, which was withdrawn and stays
}

// errEnough ends a run whose yield returned false.
var errEnough = errors.New("enough")

func (r *run) run(ctx context.Context) error {
	if err := r.recover(ctx); err != nil {
		return err
	}
	last := "none"
	if r.dir.record.Last > 0 {
		last = r.dir.record.Last.String()
	}
	r.opts.Logger.Info("following", "dir", r.opts.Dir, "last", last, "held", len(r.dir.record.Held))
	for ctx.Err() == nil {
		if err := r.step(ctx); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// recover compares the record with the disk, and delivers the versions that an earlier run did
// not.
func (r *run) recover(ctx context.Context) error {
	if r.opts.Link != "" {
		if err := r.dir.checkLink(r.opts.Link); err != nil {
			return err
		}
	}
	if err := r.patiently(ctx, func() error { return r.dir.recover(ctx) }); err != nil {
		return err
	}
	for _, f := range r.dir.record.Held {
		known := f.Manifest
		if f.Offered != known.Digest {
			known.BLAKE3 = f.Offered
		}
		r.opts.Pool.Know(f.Version, known)
	}
	for {
		f, ok := r.dir.record.Undelivered()
		if !ok {
			return nil
		}
		if err := r.deliver(ctx, f, fetch.Progress{}); err != nil {
			return err
		}
	}
}

// step takes the next version, or waits until there may be one.
func (r *run) step(ctx context.Context) error {
	e, wait, err := r.next(ctx)
	switch {
	case err != nil:
		return err
	case e == (distfile.Entry{}):
		return r.await(ctx, wait)
	}
	if b := r.dir.record.Begun; b != nil && !b.Is(e) {
		r.dir.abandon()
	}
	went, err := r.fetch(ctx, e)
	switch {
	case err == nil:
		return r.fetched(ctx, e, went)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errStale):
		r.opts.Logger.Info("newer version on offer", "version", e.Version.String())
		return nil
	case errors.Is(err, errNotFaster):
		r.opts.Logger.Warn("no other version comes faster", "version", r.choice.patient.Version.String())
		return nil
	}
	return r.failed(e, err)
}

// next returns the version to take now, or the zero entry and how long to wait for news.
func (r *run) next(ctx context.Context) (e distfile.Entry, wait time.Duration, err error) {
	count := r.count(&r.dir.record)
	// The first choice waits for the other servers, which may have more than the quickest one.
	if len(count.Entries) > 0 && !r.started && !r.opts.Pool.Heard() {
		if r.opts.Pool.Refresh(ctx, fetch.Soon) != nil {
			return distfile.Entry{}, lookup.PollEvery, nil
		}
		count = r.count(&r.dir.record)
	}
	r.doubt(count.Err)
	if len(count.Listed) == 0 {
		return distfile.Entry{}, forever, r.allGone(ctx, count)
	}
	if !r.started && len(count.Entries) > 0 {
		r.started = true
		r.choice.start(count.Entries)
		r.passed.start(r.dir.record.Last, r.opts.From, count.Entries)
	}
	// A server that has not answered yet may have the versions that are missing.
	if r.opts.Pool.Complete() {
		if delivered, err := r.goBack(ctx, count); err != nil || delivered {
			return distfile.Entry{}, 0, err
		}
		if err := r.lookBack(ctx, count); err != nil {
			return distfile.Entry{}, 0, err
		}
	}
	if count.Err != nil {
		return distfile.Entry{}, forever, nil
	}
	r.offers = count.Entries
	r.passed.see(count.Entries)
	if wait, err := r.descend(ctx); err != nil || wait > 0 {
		return distfile.Entry{}, wait, err
	}
	e, wait = r.choice.next(&r.dir.record, count.Entries, time.Now())
	if r.vanished {
		wait = min(wait, askAgain)
	}
	if len(r.descending.failures) > 0 {
		wait = min(wait, onceMore)
	}
	return e, wait, nil
}

// count returns the versions that count after those that were delivered by a record.
func (r *run) count(delivered *record.Record) fetch.Count {
	return r.opts.Pool.Count(fetch.Taker{Highest: delivered.Last, AnyNumber: r.opts.AcceptRestart})
}

// doubt warns, once in an hour, that nothing new is delivered because of err, if it is not nil.
func (r *run) doubt(err error) {
	if err == nil {
		r.doubted = time.Time{}
		return
	}
	waits := errors.Is(err, fetch.ErrNotTrusted) && !r.opts.Pool.Heard() // for the first answers
	if waits || time.Since(r.doubted) < refusedEvery {
		return
	}
	r.doubted = time.Now()
	r.opts.Logger.Warn("nothing new is delivered", "err", err)
}

// lookBack finds out whether the numbers have gone back behind the last version. It follows them
// if that is allowed, or the publisher has said so. Otherwise it warns, once in an hour, and the
// directory stays as it is, since a replayed list looks the same.
func (r *run) lookBack(ctx context.Context, count fetch.Count) error {
	if count.Epoch > 0 {
		return r.enter(ctx, count)
	}
	offers := count.Entries
	newest, last := offers[len(offers)-1], r.dir.record.Last
	over := restarted(&r.dir.record, offers)
	if over && r.opts.AcceptRestart {
		r.opts.Logger.Warn("origin has started over", "last", last.String(), "newest", newest.Version.String())
		r.choice.startOver()
		r.passed.startOver()
		return r.patiently(ctx, func() error { return r.dir.startOver(offers) })
	}
	behind := !slices.ContainsFunc(r.opts.Pool.Offers(), func(e distfile.Entry) bool { return e.Version >= last })
	if (over || behind) && (newest != r.refused || time.Since(r.refusedAt) > refusedEvery) {
		r.refused, r.refusedAt = newest, time.Now()
		r.opts.Logger.Warn("version numbers have gone back", "last", last.String(), "newest", newest.Version.String(),
			"hint", "no older version is delivered; give --accept-restart if the origin began anew")
	}
	return nil
}

// enter follows the publisher into the epoch of its release: numbers begin again in a higher one,
// and in the first if what was delivered before is another file now.
func (r *run) enter(ctx context.Context, count fetch.Count) error {
	before, listed := r.dir.record.Epoch, count.Listed
	if count.Epoch <= before {
		return nil
	}
	over := before > 0 || restarted(&r.dir.record, listed)
	r.dir.record.Epoch = count.Epoch
	if !over {
		return r.patiently(ctx, r.dir.save)
	}
	r.opts.Logger.Warn("publisher has started over", "last", r.dir.record.Last.String(),
		"newest", listed[len(listed)-1].Version.String(), "epoch", count.Epoch)
	r.choice.startOver()
	r.passed.startOver()
	return r.patiently(ctx, func() error { return r.dir.startOver(listed) })
}

// refusedEvery is the time between two warnings that numbers have gone back.
const refusedEvery = time.Hour

// await waits for news, or so long.
func (r *run) await(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.news:
		r.choice.answered()
	case <-timer.C:
	}
	return nil
}

// Errors that end a download in favour of another version.
var (
	errStale     = errors.New("a newer version is on offer")
	errSlow      = errors.New("it brings next to nothing, and others may come")
	errNotFaster = errors.New("others come no faster")
)

// lookEvery is the time between two looks whether a download gets on.
const lookEvery = time.Second

// fetch downloads e to the path of the template.
func (r *run) fetch(ctx context.Context, e distfile.Entry) (fetch.Progress, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var m shard.Manifest
	var went fetch.Progress
	var err error
	var headway fetch.Headway
	before := r.dir.record // the download has the record
	before.Held = slices.Clone(before.Held)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	ended := make(chan struct{})
	seeds, record := append(r.dir.seeds(), r.opts.Seeds...), r.dir.full(describedBy(e.Version, e.Digest))
	go func() {
		defer close(ended)
		m, went, err = r.opts.Client.Download(ctx, client.Download{
			Entry: e, Path: r.opts.Dir, Headway: &headway, Afresh: r.opts.Afresh, Progress: r.opts.Progress,
			Seeds: seeds, Record: record,
			Place:   func(m shard.Manifest) (*os.Root, string, error) { return r.place(ctx, e, m) },
			Replace: true, MayReplace: func() error { return r.dir.mayReplace(ctx) },
		})
	}()
	for downloading := true; downloading; {
		select {
		case <-ended:
			downloading = false
		case <-r.news:
			r.choice.answered()
			offers := r.count(&before).Entries
			r.passed.see(offers)
			if r.opts.SkipStale && r.choice.isStale(e, offers) {
				cancel(errStale)
			}
		case <-look.C:
			if headway.Stalled() {
				if why := r.choice.stalled(&before, e, r.count(&before).Entries); why != nil {
					cancel(why)
				}
			}
		}
	}
	if errors.Is(err, errHere) {
		return fetch.Progress{}, nil
	}
	if err != nil {
		return went, err
	}
	r.opts.Pool.Know(e.Version, m)
	return went, r.dir.complete(m)
}

// place records e, whose manifest is m, and returns its place.
func (r *run) place(ctx context.Context, e distfile.Entry, m shard.Manifest) (*os.Root, string, error) {
	if err := r.sameLabels(e, m); err != nil {
		return nil, "", err
	}
	name, err := r.template.file(subject{e.Version, m}, r.opts.Marker, r.opts.Link)
	if err != nil {
		return nil, "", err
	}
	f := record.File{Version: e.Version, Manifest: m, Shards: len(m.Shards), Offered: e.Digest, Path: name}
	f.Manifest.Shards = nil
	f.Manifest.Digest = cmp.Or(m.Digest, e.Digest)
	dir, err := r.dir.begin(ctx, f)
	return dir, path.Base(f.Path), err
}

// fetched records that e has come, and delivers it.
func (r *run) fetched(ctx context.Context, e distfile.Entry, went fetch.Progress) error {
	r.full = false
	r.choice.fetched(e)
	r.passed.delivered(e, r.offers)
	if err := r.patiently(ctx, r.dir.save); err != nil {
		return err
	}
	f, ok := r.dir.record.Undelivered()
	if !ok {
		return fmt.Errorf("%s is gone", e.Version)
	}
	return r.deliver(ctx, f, went)
}

// deliver makes the marker and the link of f, whose file is in place, removes old versions, and
// yields f.
func (r *run) deliver(ctx context.Context, f record.File, went fetch.Progress) error {
	logger := r.opts.Logger.With("version", f.Version.String())
	if err := r.patiently(ctx, func() error { return r.dir.mark(f) }); err != nil {
		logger.Error("marker not written", "err", err)
	}
	if r.opts.Link != "" {
		if err := r.patiently(ctx, func() error { return r.dir.point(r.opts.Link, f) }); err != nil {
			logger.Error("link not switched", "err", err)
		}
	}
	if err := r.patiently(ctx, func() error { return r.dir.trim(ctx) }); err != nil {
		return err
	}
	if err := r.patiently(ctx, r.dir.save); err != nil {
		return err
	}
	if went.Version == 0 {
		size := f.Manifest.Size
		went = fetch.Progress{Version: f.Version, Size: size, Done: size, Resumed: size}
	}
	more := r.yield(Delivery{
		Entry:    distfile.Entry{Version: f.Version, Digest: f.Manifest.Digest, Count: f.Shards},
		Manifest: f.Manifest, Path: r.dir.full(f.Path), Progress: went,
	}, nil)
	if ctx.Err() == nil {
		delivered := func() error { return r.dir.delivered(f, r.offers) }
		if more {
			return r.patiently(ctx, delivered)
		}
		if err := delivered(); err != nil {
			return err
		}
	}
	if !more {
		return errEnough
	}
	return context.Cause(ctx)
}

// failed notes that e was not fetched because of err, and yields it if it is passed over.
func (r *run) failed(e distfile.Entry, err error) error {
	logger := r.opts.Logger.With("version", e.Version.String())
	now := time.Now()
	switch s := r.choice.failed(e, err, now); s.reason {
	case noRoom:
		r.noRoom(err)
	case noServer:
		logger.Warn("version waits for a server", "err", err)
	case slow:
		logger.Warn("slow version put aside", "dur", s.until.Sub(now), "err", err)
	case tryAgain:
		logger.Warn("version is tried again", "dur", s.until.Sub(now).Round(time.Second), "err", err)
	case passedOver:
		r.dir.abandon()
		r.dir.tidy()
		r.dir.forget()
		r.passed.failed(e)
		if !r.yield(Delivery{Entry: e}, err) {
			return errEnough
		}
	}
	return nil
}

// patiently calls do until it finds room on the disk.
func (r *run) patiently(ctx context.Context, do func() error) error {
	for {
		err := do()
		if !disk.IsFull(err) {
			r.full = r.full && err != nil
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

// noRoom warns that the disk is full, once until it has room again.
func (r *run) noRoom(err error) {
	if !r.full {
		r.opts.Logger.Warn("disk is full, waiting for room", "dir", r.opts.Dir, "err", err)
	}
	r.full = true
}
