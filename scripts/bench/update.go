//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shardcast/shardcast/scripts/internal/file"
)

const (
	broadcastDelta = broadcast + " --delta"
	bySeed         = fromOwn + ", by the delta of what is here"
)

// update measures publishing and fetching the second version of c by the real commands, with a delta and in full.
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
	if err := b.table(ctx, t, []tool{with, without}); err != nil {
		return err
	}
	return b.fetchUpdate(ctx, c, size)
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

// fetchUpdate measures fetching the second version, with the first one here and without.
func (b *bench) fetchUpdate(ctx context.Context, c change, size int64) (err error) {
	data := filepath.Join(b.dir, "update")
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	if _, err := b.publishBoth(ctx, c, size, data, "--delta"); err != nil {
		return err
	}
	origin, err := b.serve(ctx, "origin", data)
	if err != nil {
		return err
	}
	defer origin.Kill()
	digest, err := file.Digest(c.target)
	if err != nil {
		return err
	}
	t := &Table{Name: "delta-fetch", Title: "The second version of " + c.title, Key: Wall, Limit: fromOwn}
	fetch := func(name string, role Role, args ...string) tool {
		return tool{name, role, nil, func(ctx context.Context, dir string) (Sample, error) {
			before, err := sentBy(ctx, origin.address)
			if err != nil {
				return nil, err
			}
			out := filepath.Join(dir, "out")
			s, _, err := measured(ctx, size, dir, nil, b.command("client"), append([]string{
				"--servers", origin.address,
				"--version", "v2", "--output-file", out, "--progress", "none", "--log-level", "WARNING",
			}, args...)...)
			if err != nil {
				return nil, err
			}
			after, err := sentBy(ctx, origin.address)
			if err != nil {
				return nil, err
			}
			s[Wire] = (after - before) / 1e6
			if got, err := file.Digest(out); err != nil || got != digest {
				return nil, errors.Join(err, errors.New("the file is wrong"))
			}
			return s, nil
		}}
	}
	return b.table(ctx, t, []tool{fetch(bySeed, Ours, "--seed", c.base), fetch(fromOwn, Part)})
}

// sentBy is the number of bytes that a server of ours has sent, without headers.
func sentBy(ctx context.Context, address string) (bytes float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 2 && strings.HasPrefix(fields[0], "shardcast_sent_bytes_total{") &&
			fields[0] != `shardcast_sent_bytes_total{kind="metrics"}` {
			n, err := strconv.ParseFloat(fields[1], 64)
			if err != nil {
				return 0, err
			}
			bytes += n
		}
	}
	return bytes, nil
}
