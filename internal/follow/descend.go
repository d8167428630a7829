package follow

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/lineage"
	"github.com/shardcast/shardcast/internal/shard"
)

// descending is the state of a run that follows by lineage.
type descending struct {
	manifest func(ctx context.Context, e distfile.Entry) (shard.Manifest, error)
	failures map[distfile.Entry]failure // of manifest
	gap      Gap                        // that was said last
	without  bool                       // that versions have no place was said
}

// failure is that of asking for a manifest.
type failure struct {
	count int
	until time.Time // zero, or when to ask once more
}

// descend learns the labels that the choice needs, by the manifests, says gaps, and begins runs. It
// returns how long to wait if labels cannot be had now.
func (r *run) descend(ctx context.Context) (wait time.Duration, err error) {
	if r.choice.descent == nil {
		return 0, nil
	}
	r.forgetLabels(time.Now())
	p := r.choice.descent.plan(&r.dir.record, r.offers)
	for p.unknown.Version != 0 {
		if wait, err := r.learn(ctx, p.unknown); err != nil || wait > 0 {
			return wait, err
		}
		p = r.choice.descent.plan(&r.dir.record, r.offers)
	}
	if d := &r.descending; p.without.Version != 0 && !d.without {
		d.without = true
		r.opts.Logger.Warn("versions without a place in a run are left out", "version", p.without.Version.String(),
			"hint", "they lack the label number")
	}
	if p.start.Version != 0 {
		if err := r.beginRun(ctx, p); err != nil {
			return 0, err
		}
	}
	r.sayGap(p.gap)
	return 0, nil
}

// forgetLabels forgets those of versions that are not on offer any more, and those that could not be had
// and may be by now.
func (r *run) forgetLabels(now time.Time) {
	labels, failures := r.choice.descent.labels, r.descending.failures
	offered := make(map[distfile.Entry]bool, len(r.offers))
	for _, e := range r.offers {
		offered[e] = true
	}
	maps.DeleteFunc(labels, func(e distfile.Entry, _ map[string]string) bool { return !offered[e] })
	maps.DeleteFunc(failures, func(e distfile.Entry, f failure) bool {
		over := !f.until.IsZero() && now.After(f.until)
		if over {
			delete(labels, e)
		}
		return over || !offered[e]
	})
}

// learn asks for the labels of e. It returns how long to wait if they cannot be had now. After a few
// failures e counts as one without labels for a while, since it must not hold up all others.
func (r *run) learn(ctx context.Context, e distfile.Entry) (wait time.Duration, err error) {
	labels, failures := r.choice.descent.labels, r.descending.failures
	m, err := r.descending.manifest(ctx, e)
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fetch.ErrNoVersion):
		labels[e] = lineage.Labels(m.Labels)
		return 0, nil
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case errors.Is(err, fetch.ErrUnreachable):
		return firstPause, nil
	}
	f := failures[e]
	if f.count++; f.count >= rounds {
		r.opts.Logger.Warn("version left out for now", "version", e.Version.String(), "dur", onceMore, "err", err)
		labels[e], f.until = nil, time.Now().Add(onceMore)
	} else {
		wait = firstPause
	}
	failures[e] = f
	return wait, nil
}

// sayGap tells of a gap, once.
func (r *run) sayGap(g Gap) {
	if g == r.descending.gap {
		return
	}
	r.descending.gap = g
	if g.Missing == "" {
		return
	}
	r.opts.Logger.Warn("gap in the run", "run", g.Run, "missing", g.Missing, "version", g.Version.String(),
		"hint", "the run goes on when that number or a newer full version is on offer")
	if r.opts.OnGap != nil {
		r.opts.OnGap(g)
	}
}

// beginRun has the record begin the run of p, and removes what was made of others.
func (r *run) beginRun(ctx context.Context, p plan) error {
	record := &r.dir.record
	if record.Run != nil {
		r.opts.Logger.Info("new run", "run", p.run, "was", *record.Run, "version", p.start.Version.String())
		if r.opts.OnRun != nil {
			r.opts.OnRun(p.run)
		}
	}
	r.descending.gap = Gap{}
	record.Run, record.Last = &p.run, p.start.Version-1
	return r.patiently(ctx, func() error { return r.dir.leaveOtherRuns(ctx, p.run) })
}

// leaveOtherRuns removes the versions of other runs than run, with the link if it leads to one of them.
func (d *directory) leaveOtherRuns(ctx context.Context, run string) error {
	held := slices.Clone(d.record.Held)
	other := func(i int) bool {
		labels := held[i].Manifest.Labels
		return lineage.HasRun(labels) && labels[lineage.Run] != run
	}
	target, _ := d.root.Readlink(d.record.Link)
	for i, f := range held {
		if other(i) && target == filepath.FromSlash(f.Path) {
			d.unlink()
		}
	}
	if b := d.record.Begun; b != nil && b.Manifest.Labels[lineage.Run] != run {
		d.abandon()
	}
	if err := d.drop(ctx, other); err != nil {
		return err
	}
	return d.save()
}

// sameLabels returns an error if the manifest m of e has other labels than the one by which it was chosen.
func (r *run) sameLabels(e distfile.Entry, m shard.Manifest) error {
	if r.choice.descent == nil {
		return nil
	}
	if labels, ok := r.choice.descent.labels[e]; ok && !maps.Equal(labels, lineage.Labels(m.Labels)) {
		delete(r.choice.descent.labels, e)
		return fmt.Errorf("%s: a server states other labels than another one", e.Version)
	}
	return nil
}
