package main

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// poll is how often a server is asked that does not hold what it is asked.
const poll = 5 * time.Millisecond

// A watcher keeps when a server has first listed each version.
type watcher struct {
	url    string
	client http.Client
	etag   string

	mu      sync.Mutex // guards what follows
	listed  map[shard.Version]time.Time
	changed chan struct{} // closed and replaced when listed changes
}

func newWatcher(address string) *watcher {
	return &watcher{
		url: "http://" + address + "/" + distfile.FileName, client: http.Client{Transport: &http.Transport{}},
		listed: make(map[shard.Version]time.Time), changed: make(chan struct{}),
	}
}

// follow asks the server until ctx ends: once for each change if it holds the
// request until there is one, and else every few milliseconds.
func (w *watcher) follow(ctx context.Context) {
	defer w.client.CloseIdleConnections()
	for ctx.Err() == nil {
		if !w.ask(ctx) {
			_ = pause(ctx, poll)
		}
	}
}

// ask asks once, and reports whether the request was held.
func (w *watcher) ask(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url, http.NoBody)
	if err != nil {
		return false
	}
	req.Header.Set("Prefer", "wait=30")
	if w.etag != "" {
		req.Header.Set("If-None-Match", w.etag)
	}
	resp, err := w.client.Do(req)
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
		w.note(entries, time.Now())
	}
	return resp.Header.Get("Preference-Applied") != ""
}

// note keeps which of the entries are new.
func (w *watcher) note(entries []distfile.Entry, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range entries {
		if _, ok := w.listed[e.Version]; !ok {
			w.listed[e.Version] = now
		}
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// listedAt waits until the server lists v, and returns when it first did.
func (w *watcher) listedAt(ctx context.Context, v shard.Version) (time.Time, error) {
	for {
		w.mu.Lock()
		at, ok := w.listed[v]
		changed := w.changed
		w.mu.Unlock()
		if ok {
			return at, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		}
	}
}
