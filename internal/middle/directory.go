package middle

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// directory is the data directory, which this process alone changes.
type directory struct {
	store  *store.Store
	logger *slog.Logger
}

// change makes a change to the directory.
func (d directory) change(ctx context.Context, f func(w *store.Writer) error) error {
	w, err := d.store.Lock(ctx)
	if err != nil {
		return err
	}
	return errors.Join(f(w), w.Unlock())
}

// manifest reads the manifest of v, which is held.
func (d directory) manifest(v shard.Version) (shard.Manifest, error) {
	f, err := d.store.Manifest(v)
	if err != nil {
		return shard.Manifest{}, err
	}
	defer f.Close()
	return shard.ParseManifest(f)
}

// holds reports whether the directory lists e.
func (d directory) holds(e distfile.Entry) (bool, error) {
	held, err := d.store.Distribution()
	return slices.ContainsFunc(held, e.Same), err
}

// report logs that the directory failed at task, unless err is nil or follows from the end
// of ctx.
func (d directory) report(ctx context.Context, task string, err error) {
	if err != nil && ctx.Err() == nil {
		d.logger.Error("data directory failed", "task", task, "err", err)
	}
}
