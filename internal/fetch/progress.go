package fetch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// Progress is how far a fetch has come. Sizes are in bytes, speeds in bytes per
// second.
type Progress struct {
	Version shard.Version

	// Size is the file's, and -1 while it is not known.
	Size int64

	// Done is how much of the file is in place; it is less again when a shard turns
	// out to be wrong.
	Done int64

	// Resumed is how much of Done was there before, and right.
	Resumed int64

	// Received is what upstreams have sent of shards.
	Received int64

	// Peers is what of Received peers of a swarm have sent, and no upstream.
	Peers int64

	// Wasted is what of Received was of no use: wrong, or there already.
	Wasted int64

	// Elapsed is the time since the fetch began.
	Elapsed time.Duration

	// Speed is that of the last five seconds, and in the end that of all.
	Speed float64

	// Upstreams are in the order of the options. Peers follow them.
	Upstreams []Upstream
}

// Upstream is what one upstream has done for a fetch.
type Upstream struct {
	// URL is without a password.
	URL string

	// Peer says that it is none of the options', but a peer of a swarm.
	Peer bool

	// State is one of the constants.
	State string

	// Err is why it is failing, busy or refused, and nil otherwise.
	Err error

	// Transfers is how many are under way.
	Transfers int

	// Received is what it has sent of shards, and Speed how fast, as in [Progress].
	Received int64
	Speed    float64
}

// States of an [Upstream].
const (
	Idle    = "idle"
	Sending = "sending"
	Busy    = "busy"    // it has said to come again later
	Failing = "failing" // what it was asked last, it did not do
	Refused = "refused" // it is not asked again for this version
)

// tally counts what a fetch brings, by all of its manifests.
type tally struct {
	pool  *Pool
	entry distfile.Entry
	call  func(Progress)
	start time.Time

	mu       sync.Mutex // guards what follows
	fetching *fetching  // the one under way, or nil
	again    bool       // it is not the first
	ended    bool       // well
	size     int64
	done     int64
	resumed  int64
	wasted   int64
	raced    int64 // what races may have wasted
	all      source
	sources  []source // by upstream
}

// source is what has come from one upstream, or from all.
type source struct {
	received  int64
	sinceTick int64
	pace      pace
}

func (s *source) took(bytes int64) {
	s.received += bytes
	s.sinceTick += bytes
}

func (s *source) tick() {
	s.pace.add(s.sinceTick)
	s.sinceTick = 0
}

func newTally(p *Pool, e distfile.Entry, call func(Progress)) *tally {
	return &tally{pool: p, entry: e, call: call, start: time.Now(), size: -1}
}

// source returns what has come from u, for holders of mu and for as long as they are.
func (t *tally) source(u *upstream) *source {
	for len(t.sources) <= u.index {
		t.sources = append(t.sources, source{})
	}
	return &t.sources[u.index]
}

// begin notes that all is begun, by another manifest or the first.
func (t *tally) begin(f *fetching) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.again = t.fetching != nil
	t.fetching, t.size, t.done = f, f.manifest.Size, 0
}

// isAgain reports whether all was begun anew.
func (t *tally) isAgain() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.again
}

// found counts what was there of a shard; it may be wrong.
func (t *tally) found(bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done += bytes
}

// resume counts what was there of a shard, and right.
func (t *tally) resume(bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.again { // or it has come in this fetch
		t.resumed += bytes
	}
}

// took counts bytes that tr has received, and how many of them it could use.
func (t *tally) took(tr *transfer, bytes, used int64) {
	if bytes > 0 {
		t.pool.received.Store(time.Now().UnixNano())
		t.pool.opts.Metrics.Received(tr.upstream.number, bytes)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all.took(bytes)
	t.source(tr.upstream).took(bytes)
	tr.received += bytes
	t.done += used
	t.wasted += bytes - used
}

// compared counts bytes of u that were only looked at.
func (t *tally) compared(u *upstream, bytes int64) {
	t.pool.opts.Metrics.Received(u.number, bytes)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all.took(bytes)
	t.source(u).took(bytes)
	t.wasted += bytes
}

// wrong takes back what was there, and what has come, of a shard.
func (t *tally) wrong(present, fetched int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done -= present + fetched
	t.wasted += fetched
}

// race reserves what a race may waste, if that is not too much.
func (t *tally) race(bytes, size int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if float64(t.raced+bytes) > maxRaced*float64(size) {
		return false
	}
	t.raced += bytes
	return true
}

// of returns what tr has received.
func (t *tally) of(tr *transfer) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return tr.total + tr.received
}

// follow reports how things are every tick, until ctx ends.
func (t *tally) follow(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		t.mu.Lock()
		t.all.tick()
		for i := range t.sources {
			t.sources[i].tick()
		}
		t.mu.Unlock()
		t.report(false)
	}
}

// speed is that of all that comes, of the last five seconds.
func (t *tally) speed() float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all.pace.speed()
}

// tick makes what has come since the last one part of the transfers' paces.
func (t *tally) tick(transfers map[*transfer]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for tr := range transfers {
		tr.pace.add(tr.received)
		tr.total += tr.received
		tr.received = 0
	}
}

// end reports how a fetch has ended.
func (t *tally) end(well bool) Progress {
	t.mu.Lock()
	t.ended = well
	t.mu.Unlock()
	return t.report(true)
}

// report calls back with how things are, or in the end with how they were.
func (t *tally) report(end bool) Progress {
	t.mu.Lock()
	p := Progress{
		Version: t.entry.Version, Size: t.size, Done: t.done, Resumed: t.resumed, Received: t.all.received, Wasted: t.wasted,
		Elapsed: time.Since(t.start),
	}
	speed := func(s *source) float64 {
		if end {
			return float64(s.received) / max(p.Elapsed, minSample).Seconds()
		}
		return s.pace.speed()
	}
	if t.ended {
		// Exactly, whatever was dropped and found again on the way.
		p.Wasted = max(0, p.Received-(p.Done-p.Resumed))
	}
	p.Speed = speed(&t.all)
	all := t.pool.all()
	for _, u := range all {
		s := t.source(u)
		p.Upstreams = append(p.Upstreams, Upstream{URL: u.name, Peer: u.peer, Received: s.received, Speed: speed(s)})
		if u.peer {
			p.Peers += s.received
		}
	}
	f := t.fetching
	t.mu.Unlock()
	for i, u := range all {
		p.Upstreams[i].State, p.Upstreams[i].Transfers, p.Upstreams[i].Err = t.pool.state(u, f)
	}
	t.call(p)
	return p
}

// state returns how u is, and why, for a fetch that may not have begun.
func (p *Pool) state(u *upstream, f *fetching) (state string, transfers int, err error) {
	var refused error
	if f != nil {
		if refused = f.refused.of(u); refused == nil {
			refused = f.distrusted.of(u)
		}
		if errors.Is(refused, fs.ErrNotExist) {
			refused = nil // it has no manifest, or not this shard
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if refused != nil {
		return Refused, u.transfers, refused
	}
	if state = u.state(); state == Busy || state == Failing {
		err = u.err
	}
	return state, u.transfers, err
}

// logEvery is the time between two log lines of a fetch.
const logEvery = 10 * time.Second

// logProgress returns a callback that logs a line now and then, but none in the end.
func (p *Pool) logProgress() func(Progress) {
	next := logEvery
	return func(now Progress) {
		if now.Elapsed < next || now.Size < 0 {
			return
		}
		next = now.Elapsed + logEvery
		percent := 100.0
		if now.Size > 0 {
			percent = 100 * float64(now.Done) / float64(now.Size)
		}
		p.opts.Logger.Info("fetching", "version", now.Version.String(), "percent", fmt.Sprintf("%.1f", percent),
			"bytes", now.Done, "size", now.Size, "speed", int64(now.Speed))
	}
}
