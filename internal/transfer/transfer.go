// Package transfer brings the bytes of one version into their places, by one manifest:
// spans, workers, continuing, helping, progress. It refuses to know which versions there
// are, how a server is chosen, and swarms.
//
// A caller may lean on this: a place is committed only when its shard is right, and
// [Transfer.Run] returns nil only when all shards and the whole are.
//
// # Continuing
//
// A shard is brought in spans, at first one. What a pull, which is one request, has
// brought of its span stays, and the next pull asks for the rest (RFC 9110, section 14),
// from whichever server; of a server that knows no ranges it skips what is there. Data
// that an earlier fetch has left is used if the shard is right in the end.
//
// # Order
//
// A [Plan] says which shard comes next. [InOrder] begins shards in ascending order, but
// those first that readers wait for; meanwhile no more than two come that no reader has
// waited for. So a chain of middles runs in step, and middles side by side spend their
// upstream's rate on what their readers want; docs/design.md has the measurement.
//
// # Not waiting
//
// All pulls are looked at four times a second, and the plan decides. [InOrder] gives up a
// pull that brings less than a tenth of its usual speed, or of the speed of pulls from other
// servers, and another one goes on; see package rank. A span that was given up has twice the time before it is
// again, up to 160 s. While all workers are busy and a good server is idle, the pull that
// takes longest, of a server that has several, is moved to it. When all shards are begun,
// a worker without work helps the pull that takes longest: it takes over the end of its
// span, as much as makes both end at the same time. Where that is too little, it asks for
// all of the rest too, if it is expected to be twice as fast. Over a long way a worker
// requests no more at once than what it brings in half the time of the rest.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/rank"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signal"
	"github.com/shardcast/shardcast/internal/verify"
)

// Options configure a [Transfer]. All but Audience and Metrics are required.
type Options struct {
	Version  shard.Version
	Manifest shard.Manifest

	// Pinned says that the manifest is a server's: its digests of shards are what caches on
	// the way may key them by.
	Pinned bool

	// Patient waits for shards that servers lack, see [roster.Later].
	Patient bool

	// Only are the numbers of the shards to bring. Nil means all.
	Only map[int]bool

	// Afresh has the data that an earlier fetch has left fetched again.
	Afresh bool

	// Sink is where shards go, and Audience reads them meanwhile: a shard that a reader waits for is
	// checked before its turn. Nil means that no reader does.
	Sink     Sink
	Audience Audience

	// Giver brings data to the sink beside the servers. Nil means that nothing does.
	Giver Giver

	Verifier *verify.Verifier

	// Get requests a shard from a server. The request has no path.
	Get func(ctx context.Context, s *remote.Server, number int, r remote.Request) (*remote.Body, error)

	// Blame has s not asked again, because its bytes are wrong.
	Blame func(ctx context.Context, s *remote.Server, err error)

	// Workers bounds the shards in flight.
	Workers int

	// Far says that the servers are: the time of a round trip counts.
	Far bool

	Roster  *roster.Roster
	Tally   *Tally
	Metrics *metrics.Metrics
	Logger  *slog.Logger
}

// A Giver brings data to a sink by itself, which is verified as that of an earlier fetch. Its methods are
// called from all workers.
type Giver interface {
	// Await waits until shard number has come, or does not come from here. It returns the ranges that it has
	// brought, ascending, or that what is there is better not used. The error is the cause of ctx's end.
	Await(ctx context.Context, number int) (made []disk.Range, doubtful bool, err error)

	// Wrong says that shard number was wrong with what it has brought.
	Wrong(number int)
}

// nothing is the giver that brings nothing.
type nothing struct{}

// Await does not wait.
func (nothing) Await(context.Context, int) ([]disk.Range, bool, error) { return nil, false, nil }

// Wrong has no giver to reach.
func (nothing) Wrong(int) {}

// A Plan says what a worker does next. Its methods are called from all workers.
type Plan interface {
	// Next waits for the next job. A job without a shard means that all have come.
	Next(ctx context.Context) (Job, error)

	// Tick is called four times a second, when the paces of all pulls have been updated.
	Tick()

	// Lost has shards come again that were wrong before their turn, and of which no job says so.
	Lost(wrong []*Arrival) error
}

// A Job is to bring spans of a shard.
type Job struct {
	Shard *Arrival
	Spans []*Span

	// Fit is called before that with each span, and how fast the worker has brought its last one, in bytes per
	// second, or 0. It may leave the end of the span to others. Nil leaves all spans as they are.
	Fit func(s *Span, speed float64)

	// Bring brings one of the spans, as [Transfer.Pull] does.
	Bring func(ctx context.Context, s *Span, buf []byte) error

	// Ended says how the job went. An error ends the transfer.
	Ended func(ctx context.Context, r Result) error
}

// A Result is how a job went.
type Result struct {
	// Whole says that all of the shard has come, and that it is right or waits for its turn.
	Whole bool

	// Wrong are shards, this one or others whose turn it was, that are to come again.
	Wrong []*Arrival

	// Err is what Bring returned, or an error of this machine's.
	Err error
}

// A Transfer is the transfer of one version by one manifest. Its methods may be called
// from any goroutine.
type Transfer struct {
	opts     Options
	audience Audience
	pulls    pulls
	changed  signal.Signal // a worker without work may find some
	buffers  sync.Pool     // of *[]byte, bufferSize long

	mu      sync.Mutex // guards what follows
	digests []shard.Digest
	open    map[int]*Arrival // shards that have begun, by number; nil while they are opened
	done    int              // shards that are right, and in their places
	servers map[string]*remote.Server
	senders map[string]bool // of all shards that are right; the empty name is for data that was there before
}

// bufferSize in bytes is what is received at once; memory is this times the shards in
// flight.
const bufferSize = 256 << 10

// New returns a Transfer of which nothing has come.
func New(opts Options) *Transfer {
	t := &Transfer{
		opts: opts, audience: opts.Audience, digests: slices.Clone(opts.Manifest.Shards), open: make(map[int]*Arrival),
		servers: make(map[string]*remote.Server), senders: make(map[string]bool),
		buffers: sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }},
	}
	if t.audience == nil {
		t.audience = empty{}
	}
	if t.opts.Giver == nil {
		t.opts.Giver = nothing{}
	}
	t.pulls.under = make(map[*pull]bool)
	return t
}

// Changed returns a channel that is closed when a worker without work may find some.
func (t *Transfer) Changed() <-chan struct{} { return t.changed.Wait() }

// Workers returns the bound of the shards in flight.
func (t *Transfer) Workers() int { return t.opts.Workers }

// Run brings all shards as the plan says, and returns the manifest with all digests. Errors
// are those of the plan, of places, and of [verify.Verifier.Whole], or what ended ctx.
func (t *Transfer) Run(ctx context.Context, plan Plan) (m shard.Manifest, err error) {
	t.opts.Tally.begin(t.size())
	watched, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { t.watch(watched, plan) })
	defer watching.Wait()
	defer stop()
	defer func() { err = errors.Join(err, t.close()) }()
	group, ctx := errgroup.WithContext(ctx)
	for range t.opts.Workers {
		group.Go(func() error { return t.work(ctx, plan) })
	}
	m = t.opts.Manifest
	over := make(chan struct{})
	if t.opts.Audience != nil {
		group.Go(func() error { return t.checkEarly(ctx, plan, over) })
	}
	group.Go(func() error {
		defer close(over)
		sha256, blake3, err := t.opts.Verifier.Whole(ctx)
		if m.Digest = sha256; blake3 != (shard.Digest{}) {
			m.BLAKE3 = blake3
		}
		return err
	})
	if err := group.Wait(); err != nil {
		return m, err
	}
	if slices.Contains(m.Shards, shard.Digest{}) {
		t.opts.Metrics.Verified(len(m.Shards)) // all at once, by the digest of the file
	}
	m.Shards = t.digests
	return m, nil
}

// size is that of all shards to bring.
func (t *Transfer) size() int64 {
	if t.opts.Only == nil {
		return t.opts.Manifest.Size
	}
	var size int64
	for number := range t.opts.Only {
		size += t.opts.Manifest.Shard(number).Size
	}
	return size
}

// watch updates the paces of all pulls every tick.
func (t *Transfer) watch(ctx context.Context, plan Plan) {
	ticker := time.NewTicker(rank.Tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		t.pulls.tick(t.opts.Roster)
		plan.Tick()
		t.changed.Raise()
	}
}

// close closes the places of shards that have not arrived.
func (t *Transfer) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var err error
	for _, a := range t.open {
		if a != nil {
			err = errors.Join(err, a.place.Close())
		}
	}
	return err
}

// work does jobs until all shards have come.
func (t *Transfer) work(ctx context.Context, plan Plan) error {
	buf, _ := t.buffers.Get().(*[]byte)
	defer t.buffers.Put(buf)
	speed := 0.
	for {
		j, err := plan.Next(ctx)
		if j.Shard == nil || err != nil {
			return err
		}
		var r Result
		for _, s := range j.Spans {
			if j.Fit != nil {
				j.Fit(s, speed)
			}
			began, left := time.Now(), s.left()
			if r.Err = j.Bring(ctx, s, *buf); r.Err != nil {
				break
			}
			speed = rank.Speed(left-s.left(), time.Since(began))
		}
		if r.Err == nil {
			r = t.finish(ctx, j.Shard, *buf)
		}
		if err := j.Ended(ctx, r); err != nil {
			return fmt.Errorf("shard %d: %w", j.Shard.Number(), err)
		}
	}
}

// finish has the shard checked if all of it has come, and no other worker does so.
func (t *Transfer) finish(ctx context.Context, a *Arrival, buf []byte) (r Result) {
	if !a.finish() {
		return Result{}
	}
	r.Wrong, r.Err = t.check(ctx, a.check, buf)
	if t.opts.Audience != nil && r.Err == nil {
		var wrong []*Arrival
		wrong, r.Err = t.checkWaiting(ctx)
		r.Wrong = append(r.Wrong, wrong...)
	}
	r.Whole = r.Err == nil && !slices.Contains(r.Wrong, a)
	return r
}

// checkEarly does what [Transfer.checkWaiting] does at each tick, until ctx ends or all is over: a reader may
// come to the end of a shard, or a first peer, long after the shard has come.
func (t *Transfer) checkEarly(ctx context.Context, plan Plan, over <-chan struct{}) error {
	for {
		changed := t.Changed() // at each tick, too
		wrong, err := t.checkWaiting(ctx)
		if err == nil && len(wrong) > 0 {
			err = plan.Lost(wrong)
		}
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-over:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// checkWaiting checks shards that wait for their turn although readers wait for them, or all are checked
// one by one, and returns those that are wrong.
func (t *Transfer) checkWaiting(ctx context.Context) (wrong []*Arrival, err error) {
	for err == nil {
		c := t.opts.Verifier.Waiting(t.audience.Asked)
		if c == nil {
			break
		}
		var more []*Arrival
		buf, _ := t.buffers.Get().(*[]byte)
		more, err = t.check(ctx, c, *buf)
		t.buffers.Put(buf)
		wrong = append(wrong, more...)
	}
	return wrong, err
}

// check keeps what is right, and begins again what is wrong.
func (t *Transfer) check(ctx context.Context, c *verify.Check, buf []byte) (wrong []*Arrival, err error) {
	defer t.opts.Tally.Checks()()
	for v, err := range t.opts.Verifier.Came(ctx, c, buf) {
		if err != nil {
			return wrong, &roster.Setback{Err: err, What: roster.Stop}
		}
		a := t.arrival(v.Check.Shard.Number)
		t.blame(ctx, v)
		if !v.Right {
			t.opts.Metrics.Mistaken()
			t.begins(ctx, a, v)
			wrong = append(wrong, a)
			continue
		}
		if err := t.keep(a, v.Got); err != nil {
			return wrong, &roster.Setback{Err: err, What: roster.Stop}
		}
	}
	return wrong, nil
}

// blame names the servers that a verdict blames.
func (t *Transfer) blame(ctx context.Context, v verify.Verdict) {
	err := v.Err
	if err == nil {
		err = shard.ErrDigest
	}
	for _, name := range v.Blame {
		t.mu.Lock()
		s := t.servers[name]
		t.mu.Unlock()
		t.opts.Blame(ctx, s, roster.Wrong(fmt.Errorf("%s: shard %d: %w", name, v.Check.Shard.Number, err)))
	}
}

// begins has a wrong shard come again.
func (t *Transfer) begins(ctx context.Context, a *Arrival, v verify.Verdict) {
	if len(v.Blame) == 0 {
		level := slog.LevelWarn
		if t.opts.Tally.isAgain() || a.made > 0 {
			level = slog.LevelDebug // it came by another manifest, or from the giver, of which a line says so
		}
		t.opts.Logger.Log(ctx, level, "shard is fetched again", "version", t.opts.Version.String(), "shard", a.Number(),
			"upstreams", a.check.Senders(), "resumed", a.check.Present(), "err", v.Err)
	}
	if a.made > 0 {
		t.opts.Giver.Wrong(a.Number())
	}
	a.made = 0
	present := a.again(v)
	t.opts.Tally.wrong(present, a.check.Shard.Size-present)
	t.audience.Forget(a.Number())
}

// keep commits a shard that is right.
func (t *Transfer) keep(a *Arrival, got shard.Digest) error {
	if err := a.place.Commit(); err != nil {
		return err
	}
	if err := a.place.Close(); err != nil {
		return err
	}
	size, present := a.check.Shard.Size, a.check.Present()
	t.opts.Tally.resume(present-a.made, a.made)
	if a.check.Shard.Digest != (shard.Digest{}) {
		t.opts.Metrics.Verified(1)
	}
	if present < size {
		t.opts.Metrics.Fetched(time.Since(a.begun))
	}
	senders := a.check.Senders()
	t.opts.Logger.Debug("shard fetched", "version", t.opts.Version.String(), "shard", a.Number(),
		"upstreams", senders, "bytes", size-present, "resumed", present)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range senders {
		t.senders[name] = true
	}
	if present > 0 {
		t.senders[""] = true
	}
	delete(t.open, a.Number())
	t.digests[a.Number()-1] = got
	t.done++
	t.changed.Raise()
	return nil
}

// IsFrom reports whether all shards that have arrived were sent by s alone.
func (t *Transfer) IsFrom(s *remote.Server) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.senders) == 1 && t.senders[s.Name]
}

// Shards returns the number of shards to bring, and how many of them are right and in their places.
func (t *Transfer) Shards() (count, done int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.opts.Only != nil {
		return len(t.opts.Only), t.done
	}
	return len(t.digests), t.done
}

// arrival returns a shard that has begun.
func (t *Transfer) arrival(number int) *Arrival {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[number]
}

// arrivals returns the shards that have begun.
func (t *Transfer) arrivals() []*Arrival {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*Arrival
	for _, a := range t.open {
		if a != nil {
			all = append(all, a)
		}
	}
	return all
}

// unasked returns how many shards have begun and are not there, and how many of these no
// reader has waited for.
func (t *Transfer) unasked() (begun, unasked int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for number := range t.open {
		if !t.audience.Asked(number) {
			unasked++
		}
	}
	return len(t.open), unasked
}
