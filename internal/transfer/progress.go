package transfer

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/rank"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
)

// Progress is how far a fetch has come. Sizes are in bytes, speeds in bytes per second.
type Progress struct {
	Version shard.Version

	// Phase is [Fetching], [Verifying] or [Syncing], and empty when it is over.
	Phase string

	// Size is the file's, and -1 while it is not known.
	Size int64

	// Done is how much of the file is in place; it is less again when a shard turns out to
	// be wrong.
	Done int64

	// Resumed is how much of Done was there before, and right.
	Resumed int64

	// Rebuilt is how much of Done was made from another version by a delta, and right.
	Rebuilt int64

	// Received is how much of shards was received.
	Received int64

	// Delta is how much of Received is of a delta.
	Delta int64

	// Peers is how much of Received came from peers of a swarm.
	Peers int64

	// Wasted is how much of Received was of no use: wrong, or there already.
	Wasted int64

	// Elapsed is the time since the fetch began.
	Elapsed time.Duration

	// Speed is that of the last five seconds, and in the end that of all.
	Speed float64

	// Upstreams are in the order of the options. Peers follow them.
	Upstreams []Upstream
}

// Phases of a fetch.
const (
	Fetching  = "fetching"
	Verifying = "verifying" // no server sends anything, and bytes that are there are checked
	Syncing   = "syncing"   // all is verified, and the receiver has yet to make it last
)

// An Upstream is one server's part of a fetch.
type Upstream struct {
	// URL is without a password.
	URL string

	// Peer says that it is a peer of a swarm, and none of the options'.
	Peer bool

	// State is [roster.Idle], [roster.Sending], [roster.Busy], [roster.Failing] or [Refused].
	State string

	// Err is why it is failing, busy or refused, and nil otherwise.
	Err error

	// Transfers is how many are under way.
	Transfers int

	// Received is how much it has sent of shards, and Speed how fast, as in [Progress].
	Received int64
	Speed    float64
}

// Refused is the state of a server that is not asked again for the version.
const Refused = "refused"

// A State is how a server is at one moment.
type State struct {
	Server *remote.Server

	// Upstream lacks Received and Speed.
	Upstream Upstream
}

func (s State) sends() bool { return s.Upstream.Transfers > 0 }

// A Tally counts what a fetch brings, by all of its manifests. Its methods may be called
// from any goroutine.
type Tally struct {
	of      *Tally // of the version, if this is of its delta
	roster  *roster.Roster
	metrics *metrics.Metrics
	states  func() []State
	call    func(Progress)
	start   time.Time

	mu       sync.Mutex // guards what follows
	progress Progress   // the sizes in it
	begun    int        // manifests
	checking int        // workers that check bytes that are there
	all      source
	sources  map[*remote.Server]*source
}

// source is what has come from one server, or from all.
type source struct {
	received  int64
	sinceTick int64
	pace      rank.Pace
}

func (s *source) took(bytes int64) {
	s.received += bytes
	s.sinceTick += bytes
}

func (s *source) tick() {
	s.pace.Add(s.sinceTick)
	s.sinceTick = 0
}

// NewTally returns a Tally that has seen nothing. It passes progress to call; states
// returns the servers that may send something, in their order.
func NewTally(
	v shard.Version, r *roster.Roster, m *metrics.Metrics, states func() []State, call func(Progress),
) *Tally {
	return &Tally{
		roster: r, metrics: m, states: states, call: call, start: time.Now(),
		progress: Progress{Version: v, Size: -1}, sources: make(map[*remote.Server]*source),
	}
}

// Delta returns a Tally of a delta, whose bytes count as received for the version.
func (t *Tally) Delta() *Tally {
	none := func() []State { return nil }
	d := NewTally(t.progress.Version, t.roster, nil, none, func(Progress) {})
	d.of = t
	return d
}

// Received returns how many bytes have come of deltas.
func (t *Tally) Received() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.progress.Delta
}

// begin notes that all is begun, by another manifest or the first.
func (t *Tally) begin(size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begun++
	t.progress.Size, t.progress.Done = size, 0
}

// isAgain reports whether all was begun anew.
func (t *Tally) isAgain() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.begun > 1
}

// found counts the data that was there of a shard; it may be wrong.
func (t *Tally) found(bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress.Done += bytes
}

// Checks notes that bytes that are there are checked, until done is called.
func (t *Tally) Checks() (done func()) {
	add := func(n int) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.checking += n
	}
	add(1)
	return func() { add(-1) }
}

// resume counts the data that was there of a shard, and right, and that was made beside.
func (t *Tally) resume(bytes, made int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress.Rebuilt += made
	if t.begun == 1 { // or it has come in this fetch
		t.progress.Resumed += bytes
	}
}

// took counts bytes that a server has sent, and how many of them were of use.
func (t *Tally) took(from *remote.Server, bytes, used int64) {
	counts := t
	if t.of != nil {
		counts = t.of
	}
	if bytes > 0 {
		t.roster.Flow.Came()
		counts.metrics.Received(t.roster.Number(from), bytes)
	}
	counts.mu.Lock()
	defer counts.mu.Unlock()
	counts.all.took(bytes)
	if counts.sources[from] == nil {
		counts.sources[from] = new(source)
	}
	counts.sources[from].took(bytes)
	if counts != t {
		counts.progress.Delta += bytes
		return
	}
	t.progress.Done += used
	t.progress.Wasted += bytes - used
}

// wrong takes back the data that was there, and that has come, of a shard.
func (t *Tally) wrong(present, fetched int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress.Done -= present + fetched
	t.progress.Wasted += fetched
}

// Speed is that of all that comes, of the last five seconds, in bytes per second.
func (t *Tally) Speed() float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all.pace.Speed()
}

// Follow reports the progress every tick, until ctx ends.
func (t *Tally) Follow(ctx context.Context) {
	ticker := time.NewTicker(rank.Tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		t.mu.Lock()
		t.all.tick()
		for _, s := range t.sources {
			s.tick()
		}
		t.mu.Unlock()
		t.call(t.report((*source).speed))
	}
}

func (s *source) speed() float64 { return s.pace.Speed() }

// End reports how a fetch has ended, well or not, and returns that. After one that has ended
// well its caller syncs.
func (t *Tally) End(well bool) Progress {
	elapsed := time.Since(t.start)
	p := t.report(func(s *source) float64 { return rank.Speed(s.received, elapsed) })
	if well {
		// Exactly, whatever was dropped and found again on the way.
		p.Wasted = max(0, p.Received-p.Delta-(p.Done-p.Resumed-p.Rebuilt))
		p.Phase = Syncing
	}
	t.call(p)
	p.Phase = ""
	return p
}

// report returns the progress.
func (t *Tally) report(speed func(*source) float64) Progress {
	states := t.states()
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.progress
	p.Phase = Fetching
	if p.Size >= 0 && p.Done >= p.Size || t.checking > 0 && !slices.ContainsFunc(states, State.sends) {
		p.Phase = Verifying
	}
	p.Received, p.Elapsed, p.Speed = t.all.received, time.Since(t.start), speed(&t.all)
	for _, state := range states {
		u := state.Upstream
		if s := t.sources[state.Server]; s != nil {
			u.Received, u.Speed = s.received, speed(s)
		}
		if u.Peer {
			p.Peers += u.Received
		}
		p.Upstreams = append(p.Upstreams, u)
	}
	return p
}
