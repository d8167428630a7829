package peering

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/backoff"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signal"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/transfer"
	"github.com/shardcast/shardcast/internal/verify"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// readerWorkers is how many shards a node brings at the same time that no peer can
	// reach, while it has neighbours: it gives nothing back.
	readerWorkers = 3

	// behindWorkers is how many shards of a version are brought at the same time while a
	// newer one comes.
	behindWorkers = 2

	// mostParts is how many places stay open of shards that have begun to come and that no
	// worker brings.
	mostParts = 32

	// plainAfter is how long nothing may come, and upstream have no slot, until the node asks
	// like a client without a swarm, which needs no slot for nodes.
	plainAfter = 3 * wire.PeerSilence
	plain      = ""

	// peersPatience is the time after which a shard comes from upstream that peers did not
	// bring.
	peersPatience = 10 * time.Second
)

// PlanOptions configure a [Plan] for a version, or for a delta of it.
type PlanOptions struct {
	Version  shard.Version
	Base     shard.Version // of the delta, or 0
	Digest   shard.Digest  // of the stream, in its manifest
	Tier     int           // how many servers the stream comes through
	Shards   int
	Want     Want
	Verifier *verify.Verifier
	Audience transfer.Audience
	Transfer *transfer.Transfer
	Tally    *transfer.Tally

	// Timeout is how long an upstream may send nothing, and Attempts how often all of them
	// may fail before the fetch does, with Waits between.
	Timeout  time.Duration
	Attempts int
	Waits    roster.Waits

	// Workers bounds the shards in flight.
	Workers int

	Logger *slog.Logger
}

// path is that of the list of shards at a server.
func (o PlanOptions) path() []string {
	if o.Base != 0 {
		return []string{o.Version.String(), shard.DeltaName(o.Base), wire.HaveName}
	}
	return []string{o.Version.String(), wire.HaveName}
}

// A Want is the version or delta as the fetch wants it, see package offers.
type Want interface {
	Job(do func(*remote.Server) error) roster.Job
	Refuse(ctx context.Context, s *remote.Server, err error)
	Refused(s *remote.Server) error
}

// A Plan is a [transfer.Plan] by swarm. Its methods may be called from any goroutine.
type Plan struct {
	opts    PlanOptions
	swarm   *Swarm
	start   time.Time
	ready   chan struct{} // closed when neighbours have joined
	changed signal.Signal // there may be something else to do

	mu     sync.Mutex // guards what follows
	picker *swarm.Picker
	met    int                // neighbours, ever
	nodes  map[int]*neighbour // by their numbers
	under  int                // shards that are being brought
	parts  map[int]*transfer.Arrival
	since  map[int]time.Time // when a neighbour was asked first for a shard that has not come
	up     upstreams
}

// Plan returns the plan of a transfer, which takes part in w until the caller calls
// [Plan.Close].
func (w *Swarm) Plan(opts PlanOptions) *Plan {
	p := &Plan{
		opts: opts, swarm: w, start: time.Now(), ready: make(chan struct{}),
		picker: swarm.NewPicker(opts.Shards, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))),
		nodes:  make(map[int]*neighbour), parts: make(map[int]*transfer.Arrival), since: make(map[int]time.Time),
		up: upstreams{slot: backoff.Doubling{First: slotPause, Most: mostSlotPause}},
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.under = append(w.under, p)
	return p
}

// Close ends the part that the plan has in its swarm.
func (p *Plan) Close() {
	p.swarm.mu.Lock()
	defer p.swarm.mu.Unlock()
	for i, o := range p.swarm.under {
		if o == p {
			p.swarm.under = append(p.swarm.under[:i:i], p.swarm.under[i+1:]...)
			return
		}
	}
}

// Next waits for a shard to bring, from a neighbour or from upstream.
func (p *Plan) Next(ctx context.Context) (transfer.Job, error) {
	select {
	case <-p.ready: // or all would be taken from upstream, as if there were no neighbours
	case <-ctx.Done():
		return transfer.Job{}, context.Cause(ctx)
	}
	for {
		changed := p.changed.Wait()
		pick, from, next := p.choose()
		if pick.Shard > 0 {
			return p.job(ctx, pick, from)
		}
		if count, done := p.opts.Transfer.Shards(); done == count {
			return transfer.Job{}, nil
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-changed:
		case <-timer.C:
		case number := <-p.opts.Audience.Wanted():
			p.update(func() { p.picker.Ask(number) })
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return transfer.Job{}, context.Cause(ctx)
		}
	}
}

// update changes p, and has workers look for something to do.
func (p *Plan) update(change func()) {
	p.mu.Lock()
	change()
	p.mu.Unlock()
	p.changed.Raise()
}

// Lost leaves shards, which the picker believes to be there, to be picked again.
func (p *Plan) Lost(wrong []*transfer.Arrival) error {
	for _, a := range wrong {
		if err := p.putBack(a); err != nil {
			return err
		}
		p.update(func() { p.picker.Lost(a.Number()) })
	}
	return nil
}

// choose picks something to do, or nothing, and says when to look again then. Of neighbours
// that have not done what they were last asked, each is asked for one shard at a time, and
// workers are left for upstream: nodes that send nothing hold up no more than the others.
func (p *Plan) choose() (pick swarm.Pick, from *neighbour, next time.Time) {
	reader, behind := p.swarm.isReader(), p.swarm.isBehind(p.opts.Version)
	wanted := slices.Collect(transfer.Pending(p.opts.Audience))
	starving := time.Since(p.swarm.opts.Roster.Flow.Last(p.start))
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, number := range wanted {
		p.picker.Ask(number)
	}
	now := time.Now()
	next = p.describe(now, reader)
	workers := workersOf(p.opts.Workers, p.picker.Reader, behind)
	if p.under >= workers {
		return pick, nil, next
	}
	mayTry := p.trials() < max(1, workers-p.picker.UpstreamAtOnce())
	pick, ok := p.picker.Next(func(number int) bool {
		later := p.up.later
		if number != swarm.Upstream {
			n := p.nodes[number]
			if !n.sound && (p.picker.Under(number) > 0 || !mayTry) {
				return false
			}
			later = n.later
		}
		if later.After(now) && later.Before(next) {
			next = later
		}
		return !later.After(now)
	})
	if !ok {
		return pick, nil, next
	}
	switch {
	case pick.Node == swarm.Upstream && starving >= plainAfter && p.up.isRefusing(now):
		pick.As = plain
	case pick.As == swarm.AsSpare && starving >= wire.PeerSilence:
		pick.As = swarm.AsUpstream
	}
	p.under++
	if pick.Node != swarm.Upstream {
		from = p.nodes[pick.Node]
		if p.since[pick.Shard].IsZero() {
			p.since[pick.Shard] = now
		}
	}
	return pick, from, next
}

// describe tells the picker what kind of node this is, and returns when it may be another, in a second at the latest.
// Reader says that no peer can reach it. The caller holds mu.
func (p *Plan) describe(now time.Time, reader bool) time.Time {
	p.picker.Reader = reader && len(p.nodes) > 0
	p.picker.Far = p.swarm.opts.Remote.IsFar()
	until := p.swarm.youngUntil(len(p.nodes) > 0)
	p.picker.Young = now.Before(until)
	if p.picker.Young {
		return until
	}
	return now.Add(time.Second)
}

// workersOf returns how many workers bring shards at the same time.
func workersOf(workers int, reader, behind bool) int {
	if reader {
		workers = min(workers, readerWorkers)
	}
	if behind {
		workers = min(workers, behindWorkers)
	}
	return workers
}

// job opens the shard that was picked, or goes on with it.
func (p *Plan) job(ctx context.Context, pick swarm.Pick, from *neighbour) (transfer.Job, error) {
	p.mu.Lock()
	a := p.parts[pick.Shard]
	delete(p.parts, pick.Shard)
	p.mu.Unlock()
	if a == nil {
		var err error
		if a, err = p.opts.Transfer.Open(ctx, pick.Shard); err != nil {
			return transfer.Job{}, fmt.Errorf("shard %d: %w", pick.Shard, err)
		}
	}
	j := transfer.Job{Shard: a, Spans: a.Missing()}
	j.Bring = func(ctx context.Context, s *transfer.Span, buf []byte) error {
		return p.fromUpstream(ctx, s, pick, buf)
	}
	if from != nil {
		j.Bring = func(ctx context.Context, s *transfer.Span, buf []byte) error {
			return p.fromPeer(ctx, s, pick, from, buf)
		}
	}
	j.Ended = func(_ context.Context, r transfer.Result) error { return p.ended(a, pick, from, r) }
	return j, nil
}

// dropped is why a shard is picked again: another node may have it.
type dropped struct{ error }

// Unwrap returns the error that carries the text.
func (e dropped) Unwrap() error { return e.error }

// ended leaves what has not come to be picked again.
func (p *Plan) ended(a *transfer.Arrival, pick swarm.Pick, from *neighbour, r transfer.Result) error {
	if from != nil && p.opts.Want.Refused(from.peer.server) != nil {
		p.leave(from)
	}
	err := r.Err
	if errors.As(err, new(dropped)) {
		err = p.putBack(a)
	}
	for _, wrong := range r.Wrong {
		if wrong == a {
			err = errors.Join(err, p.putBack(a))
		} else {
			err = errors.Join(err, p.Lost([]*transfer.Arrival{wrong}))
		}
	}
	asked := p.opts.Audience.Asked(pick.Shard)
	p.update(func() {
		p.under--
		if r.Whole {
			p.picker.Done(pick)
			delete(p.since, pick.Shard)
			return
		}
		p.picker.Drop(pick)
		if from != nil && !from.sound && time.Since(p.since[pick.Shard]) >= peersPatience {
			p.picker.Need(pick.Shard)
		}
		if asked {
			p.picker.Ask(pick.Shard) // readers that wait for a shard that has begun say so no more
		}
	})
	return err
}

// putBack leaves a to be picked again. If nothing of it has come it is closed, and where
// too many would stay open the data is forgotten: places may be files. A wrong shard
// stays, with what is known of the servers to blame.
func (p *Plan) putBack(a *transfer.Arrival) error {
	p.opts.Audience.From(a.Number(), false)
	bytes, blame := a.IsWorthKeeping()
	p.mu.Lock()
	keep := blame || bytes && len(p.parts) < mostParts
	if keep {
		p.parts[a.Number()] = a
	}
	p.mu.Unlock()
	if keep {
		return nil
	}
	return p.opts.Transfer.Drop(a)
}

// Tick gives up the pull from a neighbour that holds all up. For being slow alone none is:
// all links are full.
func (p *Plan) Tick() {
	p.mu.Lock()
	more := p.picker.Age()
	p.mu.Unlock()
	if more {
		p.changed.Raise()
	}
	pulls := p.opts.Transfer.Pulls()
	slowest, ok := p.hopeless(pulls)
	if !ok {
		slowest, ok = p.lagging(pulls)
	}
	if ok {
		p.opts.Transfer.GiveUp(slowest, transfer.ErrSlow)
	}
}
