//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
)

const broadcastDelta = broadcast + " --delta"

// update measures publishing the second version of c by the real commands, with a delta and in full.
func (b *bench) update(ctx context.Context, c change) error {
	size, err := sizeOf(c.target)
	if err != nil {
		return err
	}
	t := &Table{
		Name: "delta-publish", Title: "The second version of " + c.title, Key: Wall, Limit: broadcast,
	}
	// A base of other commands may know no deltas, so that there are no rows of it.
	with, without := b.second(broadcastDelta, Ours, c, size, "--delta"), b.second(broadcast, Part, c, size)
	return b.table(ctx, t, []tool{with, without})
}

// publishBoth publishes the base of c, and then its target with more arguments, of which alone it measures the cost.
func (b *bench) publishBoth(ctx context.Context, c change, size int64, data string, args ...string) (Sample, error) {
	publish := func(name string, args ...string) (Sample, error) {
		s, _, err := measured(ctx, size, b.dir, nil, b.command("origin"), append([]string{
			"broadcast", name, "--data-dir", data,
			"--shard-size", fmt.Sprint(int64(b.flags.shardSize)), "--log-level", "WARNING",
		}, args...)...)
		return s, err
	}
	if _, err := publish(c.base); err != nil {
		return nil, err
	}
	return publish(c.target, args...)
}

// second is a row of publishing the second version, of which a delta is smaller.
func (b *bench) second(name string, role Role, c change, size int64, args ...string) tool {
	return tool{name, role, nil, func(ctx context.Context, dir string) (Sample, error) {
		data := filepath.Join(dir, "data")
		s, err := b.publishBoth(ctx, c, size, data, args...)
		if err != nil || args == nil {
			return s, err
		}
		made, err := filepath.Glob(filepath.Join(data, "v2", "from_v1", "shard_*.bin"))
		if err != nil || len(made) == 0 {
			return nil, errors.Join(err, errors.New("there is no delta"))
		}
		sum := int64(0)
		for _, name := range made {
			bytes, err := sizeOf(name)
			if err != nil {
				return nil, err
			}
			sum += bytes
		}
		s[Smaller] = float64(size) / float64(sum)
		return s, nil
	}}
}
