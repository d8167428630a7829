package middle

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
)

// checkBuffer in bytes is read at a time to verify held shards.
const checkBuffer = 256 << 10

// A checker verifies held versions.
type checker struct {
	dir     directory
	metrics *metrics.Metrics
	logger  *slog.Logger
}

// check verifies all versions that are held when it begins, the newest first, and sends
// those that do not match their manifest to damaged.
func (c checker) check(ctx context.Context, damaged chan<- distfile.Entry) {
	held, err := c.dir.store.Distribution()
	c.dir.report(ctx, "check", err)
	for _, e := range slices.Backward(held) {
		err := c.verify(ctx, e)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			c.logger.Debug("held version is right", "version", e.Version.String())
			continue
		}
		if still, bad := c.dir.holds(e); bad == nil && !still {
			continue // retired or replaced meanwhile
		}
		c.logger.Warn("held version is fetched again", "version", e.Version.String(), "err", err)
		select {
		case damaged <- e:
		case <-ctx.Done():
			return
		}
	}
}

// verify verifies the shards of e.
func (c checker) verify(ctx context.Context, e distfile.Entry) error {
	manifest, err := c.dir.manifest(e.Version)
	if err != nil {
		return err
	}
	buf := make([]byte, checkBuffer)
	for number := 1; number <= len(manifest.Shards) && ctx.Err() == nil; number++ {
		f, done, err := c.dir.store.Shard(e.Version, number)
		if err != nil {
			return err
		}
		err = errors.Join(manifest.Shard(number).Verify(f, buf), f.Close())
		done()
		if err != nil {
			c.metrics.Mistaken()
			return err
		}
		c.metrics.Verified(1)
	}
	return nil
}
