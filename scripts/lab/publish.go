package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/flags"
	"github.com/shardcast/shardcast/scripts/internal/process"
)

const (
	// settle is the time for servers and waiting clients to come to rest.
	settle = time.Second

	// small in bytes is a file whose transfer takes next to no time.
	small flags.Bytes = 1_000_000

	// publications is the number of versions in a trial of [listing].
	publications = 20

	// watchCommand as the first argument makes this program a watcher.
	watchCommand = "watch"

	// poll is the time between two requests to a server that does not hold one.
	poll = 5 * time.Millisecond
)

// broadcasting publishes the file when all nodes wait for it. The clock of each node
// starts with the command.
func broadcasting(ctx context.Context, t *trial) (Sample, error) {
	if err := t.startOthers(ctx); err != nil {
		return Sample{}, err
	}
	if err := pause(ctx, settle); err != nil {
		return Sample{}, err
	}
	var broadcast *process.Process
	begin := func(ctx context.Context) (err error) {
		for _, n := range t.nodes {
			n.began = t.begun
		}
		broadcast, err = t.net.start(ctx, 0, t.command("origin"), t.broadcast(t.lab.file.Name)...)
		return err
	}
	return t.measure(ctx, begin, func(context.Context) error {
		_, err := broadcast.Wait()
		return err
	})
}

// listing publishes one small version after the other and measures for each the time
// from the origin's listing to the last middle's.
func listing(ctx context.Context, t *trial) (s Sample, err error) {
	if err := t.startOthers(ctx); err != nil {
		return s, err
	}
	watchers := make([]*process.Process, len(t.nodes))
	for i := range t.nodes {
		if watchers[i], err = t.beside(ctx, i, watchCommand); err != nil {
			return s, err
		}
	}
	if err := pause(ctx, settle); err != nil {
		return s, err
	}
	var took []time.Duration
	for number := 1; number <= publications; number++ {
		offered, err := t.publishSmall(ctx, shard.Version(number))
		if err != nil {
			return s, err
		}
		last := offered
		for i, w := range watchers {
			at, err := listedAt(w, shard.Version(number))
			if err != nil {
				return s, err
			}
			if i == 0 && at.Before(offered) {
				offered = at
			}
			if at.After(last) {
				last = at
			}
		}
		took = append(took, last.Sub(offered))
	}
	s.All, s.Median, s.Slowest = median(took).Seconds(), median(took).Seconds(), slices.Max(took).Seconds()
	s.Nodes = len(t.nodes) - 1
	return s, nil
}

// publishSmall publishes a small file and returns the time of the end of that.
func (t *trial) publishSmall(ctx context.Context, v shard.Version) (end time.Time, err error) {
	f, err := file.Random(ctx, filepath.Join(t.dir, "small.bin"), small, t.lab.seed+uint64(v))
	if err != nil {
		return end, err
	}
	p, err := t.net.start(ctx, 0, t.command("origin"), t.broadcast(f.Name)...)
	if err != nil {
		return end, err
	}
	if end, err = p.Wait(); err == nil && strings.TrimSpace(p.Log()) != v.String() {
		err = fmt.Errorf("broadcast printed %q, and not %s", p.Log(), v)
	}
	return end, err
}

// listedAt waits until a watcher has seen a version, and returns the time of that.
func listedAt(watcher *process.Process, v shard.Version) (time.Time, error) {
	text, err := watcher.Await(`(?m)^` + v.String() + ` (\d+)$`)
	if err != nil {
		return time.Time{}, err
	}
	nanoseconds, err := strconv.ParseInt(text, 10, 64)
	return time.Unix(0, nanoseconds), err
}

// beside starts a command of this program in the namespace of a server, where no shaped
// link is between them. Its first argument is the server's address.
func (t *trial) beside(ctx context.Context, i int, command string, args ...string) (*process.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return t.net.start(ctx, i, self, append([]string{command, net.JoinHostPort(address(i), port)}, args...)...)
}

// watch prints each version that a server lists, and the time in nanoseconds, until ctx
// ends.
func watch(ctx context.Context, server string) {
	w := watcher{url: "http://" + server + "/" + distfile.FileName, seen: make(map[shard.Version]bool)}
	for ctx.Err() == nil {
		if !w.ask(ctx) {
			_ = pause(ctx, poll)
		}
	}
}

// A watcher asks a server for its list: once for each change where the server holds the
// request, and else every few milliseconds.
type watcher struct {
	url, etag string
	seen      map[shard.Version]bool
}

// ask asks once, and reports whether the server held the request.
func (w *watcher) ask(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url, http.NoBody)
	if err != nil {
		return false
	}
	req.Header.Set("Prefer", "wait=30")
	if w.etag != "" {
		req.Header.Set("If-None-Match", w.etag)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	entries, _, err := distfile.Parse(resp.Body)
	if err != nil {
		return false
	}
	if resp.StatusCode == http.StatusOK {
		w.etag = resp.Header.Get("ETag")
		now := time.Now().UnixNano()
		for _, e := range entries {
			if !w.seen[e.Version] {
				w.seen[e.Version] = true
				fmt.Println(e.Version, now)
			}
		}
	}
	return resp.Header.Get("Preference-Applied") != ""
}

// lists reports whether the server has listed a version.
func (w *watcher) lists(ctx context.Context, v shard.Version) error {
	for !w.seen[v] {
		if !w.ask(ctx) {
			if err := pause(ctx, poll); err != nil {
				return err
			}
		}
	}
	return nil
}

// pause waits for d, or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
