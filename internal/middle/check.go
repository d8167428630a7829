package middle

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/shard"
)

const (
	// checkBuffer in bytes is read at a time to verify held shards.
	checkBuffer = 256 << 10

	// checkAgain is the pause before versions are verified again that could not be read.
	checkAgain = time.Minute
)

// A checker verifies held versions.
type checker struct {
	dir     directory
	metrics *metrics.Metrics
	logger  *slog.Logger
}

// check verifies all versions that are held when it begins, the newest first, and sends
// those that do not match their manifest to damaged. Those that cannot be read now stay on
// offer, and are verified again later.
func (c checker) check(ctx context.Context, damaged chan<- distfile.Entry) {
	var unread map[distfile.Entry]bool
	for held := c.held(ctx); len(held) > 0; {
		before := unread
		unread = make(map[distfile.Entry]bool)
		for _, e := range slices.Backward(held) {
			err := c.checkOne(ctx, e, damaged)
			if ctx.Err() != nil {
				return
			}
			if unread[e] = err != nil; err != nil && !before[e] {
				c.logger.Warn("held version cannot be read now", "version", e.Version.String(), "err", err)
			}
		}
		held = slices.DeleteFunc(held, func(e distfile.Entry) bool { return !unread[e] })
		if len(held) > 0 && !pause(ctx, checkAgain) {
			return
		}
	}
}

// checkOne verifies e, and sends it to damaged if it is wrong. It returns an error if e cannot
// be read now.
func (c checker) checkOne(ctx context.Context, e distfile.Entry, damaged chan<- distfile.Entry) error {
	err := c.verify(ctx, e)
	if err == nil {
		c.logger.Debug("held version is right", "version", e.Version.String())
	}
	if err == nil || ctx.Err() != nil {
		return nil
	}
	if still, bad := c.dir.holds(e); bad == nil && !still {
		return nil // retired or replaced meanwhile
	}
	if !isWrong(err) {
		return err
	}
	c.logger.Warn("held version is fetched again", "version", e.Version.String(), "err", err)
	select {
	case damaged <- e:
	case <-ctx.Done():
	}
	return nil
}

// held returns the versions that are held, as soon as the list can be read.
func (c checker) held(ctx context.Context) []distfile.Entry {
	held, err := c.dir.store.Distribution()
	c.dir.report(ctx, "check", err)
	for err != nil && pause(ctx, checkAgain) {
		held, err = c.dir.store.Distribution()
	}
	return held
}

// isWrong reports whether err, of a held version, means that a file of it is missing or has
// wrong bytes. All others, such as too many open files, say nothing about the bytes.
func isWrong(err error) bool {
	return errors.Is(err, shard.ErrSize) || errors.Is(err, shard.ErrDigest) ||
		errors.Is(err, shard.ErrManifest) || errors.Is(err, fs.ErrNotExist)
}

// pause waits for as long as dur, and returns false if ctx ends first.
func pause(ctx context.Context, dur time.Duration) bool {
	select {
	case <-time.After(dur):
		return true
	case <-ctx.Done():
		return false
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
		if isWrong(err) {
			c.metrics.Mistaken()
		}
		if err != nil {
			return err
		}
		c.metrics.Verified(1)
	}
	return nil
}
