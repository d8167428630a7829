package store

import (
	"errors"
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/lineage"
	"github.com/shardcast/shardcast/internal/policy"
	"github.com/shardcast/shardcast/internal/shard"
)

// At returns the newest version on offer that has the place of labels in its run, and the zero entry
// if none has.
func (w *Writer) At(labels map[string]string) (distfile.Entry, error) {
	place, ok := lineage.PlaceOf(labels)
	if !ok {
		return distfile.Entry{}, nil
	}
	held, err := w.listed()
	if err != nil {
		return distfile.Entry{}, err
	}
	r := &labelReader{store: w.store}
	for _, e := range slices.Backward(held) {
		if at, ok := lineage.PlaceOf(r.of(e)); ok && at == place {
			return e, nil
		}
	}
	return distfile.Entry{}, r.err
}

// NewRun makes run the one of the directory, and retires the versions of other runs. Those of them that
// are pinned stay, and are returned.
func (w *Writer) NewRun(run string) (pinned []shard.Version, err error) {
	settings, end, err := w.begin()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end()) }()
	held, err := w.listed()
	if err != nil {
		return nil, err
	}
	r := &labelReader{store: w.store}
	var over []shard.Version
	for _, e := range held {
		labels := r.of(e)
		switch {
		case !lineage.HasRun(labels) || labels[lineage.Run] == run:
		case slices.Contains(settings.Pinned, e.Version):
			pinned = append(pinned, e.Version)
		default:
			over = append(over, e.Version)
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	// From here on nothing of another run is published, also if the process is killed.
	if _, _, err := w.store.edit(func(s *policy.Settings) { s.Run = run }); err != nil {
		return nil, err
	}
	return pinned, w.retire("the run "+run+" has begun", over)
}
