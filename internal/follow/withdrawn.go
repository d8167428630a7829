package follow

import (
	"context"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
)

// askAgain is the time after which servers are asked again about a version that none lists: they
// do not learn of a withdrawal at the same time.
const askAgain = 10 * time.Second

// back returns the version to go back to when the last one was withdrawn: of those on offer the
// newest that was delivered before.
func back(r *record, offers []distfile.Entry) (to distfile.Entry, ok bool) {
	for _, e := range slices.Backward(offers) {
		before := r.holds(e) || slices.Contains(r.Delivered, known{e.Version, e.Digest})
		if e.Version < r.Last && before && !r.isWithdrawn(e) {
			return e, true
		}
	}
	return distfile.Entry{}, false
}

// goBack finds out whether the last version was withdrawn, and goes back to an earlier one then.
// It reports whether it has delivered that.
func (r *run) goBack(ctx context.Context, count fetch.Count) (delivered bool, err error) {
	last := r.dir.record.Last
	r.vanished = false
	// One of several servers may still list it, such as a middle that is cut off: it does not count.
	counts := slices.ContainsFunc(count.Listed, func(e distfile.Entry) bool { return e.Version == last })
	newer := count.Newest().Version > last // which comes next
	if last == 0 || last == r.stayed || counts || newer {
		return false, nil
	}
	if !r.opts.Pool.Withdrawn(ctx, last) {
		r.vanished = true
		return false, nil
	}
	to, ok := back(&r.dir.record, count.Listed)
	stays := ""
	switch {
	case r.opts.NoRollback:
		stays = "--no-rollback keeps it in place"
	case !ok:
		stays = "it stays in place until a newer one comes: none that was delivered before it is on offer"
	}
	if stays != "" {
		r.stayed = last
		r.opts.Logger.Warn("version withdrawn", "version", last.String(), "hint", stays)
		return false, nil
	}
	r.opts.Logger.Warn("version withdrawn", "version", last.String(), "back", to.Version.String())
	r.dir.record.goBack(to)
	if err := r.patiently(ctx, r.dir.save); err != nil {
		return false, err
	}
	f, ok := r.dir.record.undelivered()
	if !ok {
		return false, nil // it comes next
	}
	return true, r.deliver(ctx, f, fetch.Progress{})
}

// allGone says so if no version is on offer since the last one was withdrawn.
func (r *run) allGone(ctx context.Context, count fetch.Count) error {
	if !r.opts.Pool.Complete() {
		return nil
	}
	_, err := r.goBack(ctx, count)
	return err
}

// goBack notes that the last version was withdrawn, and that to comes next: delivered once
// more if it is here, and fetched otherwise.
func (r *record) goBack(to distfile.Entry) {
	for _, k := range r.Known {
		if k.Version == r.Last && !slices.Contains(r.Withdrawn, k) {
			r.Withdrawn = append(r.Withdrawn, k)
		}
	}
	r.Withdrawn = slices.Delete(r.Withdrawn, 0, max(0, len(r.Withdrawn)-maxKnown))
	r.Last = to.Version - 1
	i := slices.IndexFunc(r.Held, func(f file) bool { return f.is(to) })
	if i < 0 {
		return
	}
	f := r.Held[i]
	f.Delivered = false
	r.Held = append(slices.Delete(r.Held, i, i+1), f) // the last one to be removed
}

// isWithdrawn reports whether e was withdrawn after it had been delivered.
func (r *record) isWithdrawn(e distfile.Entry) bool {
	return slices.Contains(r.Withdrawn, known{e.Version, e.Digest})
}
