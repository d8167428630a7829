package follow

import (
	"context"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/record"
)

// askAgain is the time after which servers are asked again about a version that none lists: they
// do not learn of a withdrawal at the same time.
const askAgain = 10 * time.Second

// back returns the version to go back to when the last one was withdrawn: of those on offer the
// newest that was delivered before.
func back(r *record.Record, offers []distfile.Entry) (to distfile.Entry, ok bool) {
	for _, e := range slices.Backward(offers) {
		before := r.Holds(e) || r.WasDelivered(e)
		if e.Version < r.Last && before && !r.IsWithdrawn(e) {
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
	r.dir.record.GoBack(to)
	if err := r.patiently(ctx, r.dir.save); err != nil {
		return false, err
	}
	f, ok := r.dir.record.Undelivered()
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
