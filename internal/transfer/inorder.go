package transfer

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardcast/shardcast/internal/rank"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// HelpAfter is the time that a pull must still take for a worker without work to help
	// it.
	HelpAfter = 500 * time.Millisecond

	// KnownAfter is the number of ticks after which a pull's speed means something.
	KnownAfter = 2

	// minSplit in bytes is the least that a span is split into.
	minSplit = 64 << 10

	// maxRaced is the part of a file that races may bring twice.
	maxRaced = 0.05

	// mostUnasked is how many shards that no reader has waited for are brought at the same
	// time, while readers wait for others.
	mostUnasked = 2

	// fitted is the part of all that is left that is requested at once over a long way: half of what the worker
	// brings meanwhile. begins is the part of a worker that has brought nothing yet, of what comes to each.
	fitted = 2
	begins = 4

	// minBegin in bytes is the least that such a worker requests.
	minBegin = 512 << 10

	// spreadAfter is the number of ticks after which a pull may be moved to a server that is
	// idle, if it takes as long again.
	spreadAfter = 8
)

// InOrder is the plan of a node without a swarm, see the package comment. Its methods may
// be called from any goroutine.
type InOrder struct {
	transfer *Transfer
	roster   *roster.Roster
	job      func(do func(*remote.Server) error) roster.Job
	header   map[string]string
	fits     bool         // see [InOrder.fit]
	raced    atomic.Int64 // bytes that races may have brought twice

	mu      sync.Mutex // guards what follows
	begun   []bool     // by shard
	ahead   int64      // bytes of shards that have not begun
	wanted  []int      // numbers of shards that readers wait for
	cursor  int        // those of begun before it are true
	resting int        // workers without work
	waiting []work     // that no worker brings
}

// work is a shard of which no worker brings the spans.
type work struct {
	arrival *Arrival
	spans   []*Span
}

// NewInOrder returns the plan of t. The job asks a server for the version. The timeout is
// how long a server may send nothing, and tier how many servers the version comes through.
func NewInOrder(
	t *Transfer, timeout time.Duration, tier int, job func(do func(*remote.Server) error) roster.Job,
) *InOrder {
	p := &InOrder{transfer: t, roster: t.opts.Roster, job: job, begun: make([]bool, len(t.digests))}
	if t.opts.Only != nil {
		for i := range p.begun {
			p.begun[i] = !t.opts.Only[i+1]
		}
	}
	for i, begun := range p.begun {
		if !begun {
			p.ahead += t.opts.Manifest.Shard(i + 1).Size
		}
	}
	p.fits = t.opts.Far && tier == 1
	p.header = Header(timeout)
	if t.opts.Audience != nil {
		// A server that has the version from us must not make us wait for it.
		p.header[wire.TierHeader] = strconv.Itoa(tier)
	}
	return p
}

// Header returns the header of a request for a shard: it says how long the server may wait
// for bytes that have not arrived there, which is less than the timeout for silence.
func Header(timeout time.Duration) map[string]string {
	return map[string]string{"Prefer": wire.PreferWait(min(max(timeout/3, time.Second), wire.MaxShardWait))}
}

// Next returns spans of the shards in ascending order, and then such that help another
// worker.
func (p *InOrder) Next(ctx context.Context) (Job, error) {
	for ctx.Err() == nil {
		changed := p.transfer.Changed()
		j, fresh, over := p.choose()
		switch {
		case over, j.Shard != nil:
			return j, nil
		case fresh > 0:
			if err := p.begin(ctx, fresh); err != nil {
				return Job{}, fmt.Errorf("shard %d: %w", fresh, err)
			}
			continue
		}
		select {
		case <-changed:
			p.rest(-1)
		case number := <-p.transfer.audience.Wanted():
			p.rest(-1, number)
		case <-ctx.Done():
			p.rest(-1)
		}
	}
	return Job{}, context.Cause(ctx)
}

// rest notes that so many workers more have no work, and which shards readers want.
func (p *InOrder) rest(more int, wanted ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resting += more
	p.wanted = append(p.wanted, wanted...)
}

// choose returns a job, or a shard to begin, or whether all have come. If there is nothing
// to do, the worker rests.
func (p *InOrder) choose() (j Job, fresh int, over bool) {
	if j, ok := p.first(); ok {
		return j, 0, false
	}
	if count, done := p.transfer.Shards(); done == count {
		return Job{}, 0, true
	}
	if fresh = p.fresh(); fresh > 0 {
		return Job{}, fresh, false
	}
	if j = p.help(); j.Shard == nil {
		p.rest(1)
	}
	return j, 0, false
}

// first takes the first of the spans that no worker brings.
func (p *InOrder) first() (j Job, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		return Job{}, false
	}
	w := &p.waiting[0]
	j = Job{Shard: w.arrival, Fit: p.fit, Bring: p.bring(nil), Ended: p.ended}
	if len(w.spans) > 0 {
		j.Spans, w.spans = w.spans[:1], w.spans[1:]
	}
	if len(w.spans) == 0 {
		p.waiting = p.waiting[1:]
	}
	return j, true
}

// fit leaves to the workers, where servers are far, the end of a span for which its worker, which is that fast, takes
// more than half as long as the rest of the transfer takes. So all workers end at about the same time, and no answer
// is broken off for that. Over a long way this would cost its connection, with all that is under way on it and the
// rate that it has come to, while one more request costs a round trip of one of many connections.
func (p *InOrder) fit(s *Span, speed float64) {
	if !p.fits {
		return
	}
	all, known := speed, 1
	for _, o := range p.transfer.Pulls() {
		if o.Ticks >= KnownAfter {
			all += o.Speed
			known++
		}
	}
	workers := p.transfer.opts.Workers
	rest := float64(p.left())
	part, least := rest/float64(begins*workers), float64(minBegin)
	if speed > 0 {
		all *= float64(workers) / float64(known)
		part, least = speed*rest/all/fitted, speed*rank.Tick.Seconds()
	}
	part = max(part, least, minSplit)
	p.cut(s, int64(part), int64(max(least, minSplit)))
}

// cut leaves the end of a span beyond so many bytes to the workers, if it has enough.
func (p *InOrder) cut(s *Span, keep, enough int64) {
	end := s.split(func(left int64) int64 {
		if left-keep < enough {
			return math.MinInt64
		}
		return left - keep
	})
	if end == nil {
		return
	}
	p.mu.Lock()
	p.waiting = slices.Insert(p.waiting, 0, work{end.arrival, []*Span{end}})
	p.mu.Unlock()
	p.transfer.changed.Raise()
}

// left returns how many bytes are still to come.
func (p *InOrder) left() (bytes int64) {
	for _, a := range p.transfer.arrivals() {
		for _, s := range a.Missing() {
			bytes += s.left()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes + p.ahead
}

// fresh returns the shard to begin: the first that a reader waits for, or else that is
// missing, or 0.
func (p *InOrder) fresh() int {
	begun, unasked := p.transfer.unasked()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = slices.AppendSeq(p.wanted, Pending(p.transfer.audience))
	p.wanted = slices.DeleteFunc(p.wanted, func(number int) bool { return p.begun[number-1] })
	for p.cursor < len(p.begun) && p.begun[p.cursor] {
		p.cursor++
	}
	number := 0
	switch {
	case len(p.wanted) > 0:
		number = p.wanted[0]
	case unasked >= mostUnasked && unasked < begun: // while readers wait, workers and rate are for them
	case p.cursor < len(p.begun):
		number = p.cursor + 1
	}
	if number > 0 {
		p.begun[number-1] = true
		p.ahead -= p.transfer.opts.Manifest.Shard(number).Size
	}
	return number
}

// begin opens a shard and leaves its spans to the workers.
func (p *InOrder) begin(ctx context.Context, number int) error {
	a, err := p.transfer.Open(ctx, number)
	if err != nil {
		return err
	}
	p.leave(false, a)
	return nil
}

// leave leaves the missing spans of shards to the workers, before others if first is set.
func (p *InOrder) leave(first bool, arrivals ...*Arrival) {
	left := make([]work, len(arrivals))
	for i, a := range arrivals {
		left[i] = work{a, a.Missing()}
	}
	p.mu.Lock()
	for _, w := range left {
		if first {
			p.waiting = slices.Insert(p.waiting, 0, w)
		} else {
			p.waiting = append(p.waiting, w)
		}
	}
	p.mu.Unlock()
	p.transfer.changed.Raise()
}

// bring returns what brings a span, from a server before others if first is not nil: that
// helps another worker.
func (p *InOrder) bring(first *remote.Server) func(context.Context, *Span, []byte) error {
	return func(ctx context.Context, s *Span, buf []byte) error {
		helping := first
		j := p.job(func(from *remote.Server) error {
			race := from == helping
			helping = nil
			return p.transfer.Pull(ctx, s, from, How{Race: race, Header: p.header}, buf)
		})
		j.First = first
		return p.roster.Try(ctx, j)
	}
}

// ended has shards that are wrong brought again.
func (p *InOrder) ended(_ context.Context, r Result) error {
	if len(r.Wrong) > 0 {
		_ = p.Lost(r.Wrong)
	}
	return r.Err
}

// Lost has shards brought again, before others.
func (p *InOrder) Lost(wrong []*Arrival) error {
	p.leave(true, wrong...)
	return nil
}

// help finds something for a worker without work: the end of the rest of the pull that takes
// longest, in proportion to how fast the server is that is drawn for it; or, where that is
// too little to be split, all of it once more.
func (p *InOrder) help() Job {
	pulls := slices.DeleteFunc(p.transfer.Pulls(), func(o Pull) bool {
		return o.Given || o.Ticks < KnownAfter || o.Left < HelpAfter.Seconds()
	})
	slices.SortFunc(pulls, func(a, b Pull) int { return cmp.Compare(b.Left, a.Left) })
	for _, o := range pulls {
		if j := p.helpWith(o); j.Shard != nil {
			return j
		}
	}
	return Job{}
}

// helpWith finds help for o. A server that has sent nothing of it yet has not shown how fast it
// is, and would only begin anew: another one takes over the part that fits its usual speed.
// If it took all, and were as late itself, each request would bring the little that the next
// one leaves.
func (p *InOrder) helpWith(o Pull) Job {
	may := p.job(nil).May
	can := func(s *remote.Server) bool { return p.roster.Free(s) && !s.Rangeless() && may(s) }
	// Not the same server again if there is another: it may be what is slow.
	s := p.roster.Pick(func(s *remote.Server) bool { return s != o.Server && can(s) })
	if s == nil && !o.Silent {
		s = p.roster.Pick(can)
	}
	if s == nil {
		return Job{}
	}
	speed := o.Speed
	if o.Silent {
		speed = p.roster.Throughput(o.Server)
	}
	rate := cmp.Or(p.roster.Throughput(s), max(speed, 1))
	if o.Silent && speed == 0 {
		speed = rate
	}
	span := o.pull.span.split(func(left int64) int64 {
		share := min(int64(float64(left)*rate/(rate+speed)), left-minSplit)
		switch {
		case share >= minSplit:
			return share
		case rate > 2*o.Speed && p.race(left):
			return 0
		}
		return math.MinInt64
	})
	if span == nil {
		return Job{}
	}
	return Job{Shard: span.arrival, Spans: []*Span{span}, Bring: p.bring(s), Ended: p.ended}
}

// race reserves the bytes that a race may bring twice, if they are not too many.
func (p *InOrder) race(bytes int64) bool {
	most := maxRaced * float64(p.transfer.opts.Manifest.Size)
	for {
		raced := p.raced.Load()
		if float64(raced+bytes) > most {
			return false
		}
		if p.raced.CompareAndSwap(raced, raced+bytes) {
			return true
		}
	}
}

// Tick gives up pulls that are too slow, and moves one to a server that is idle.
func (p *InOrder) Tick() {
	for _, o := range p.transfer.Pulls() {
		if !o.Given && p.transfer.crawls(o) {
			p.transfer.GiveUp(o, fmt.Errorf("%w: %.0f bytes a second", ErrSlow, o.Speed))
		}
	}
	p.spread()
}

// spread has a server that is idle continue a pull of one that has several: of all workers
// none may be left to ask it.
func (p *InOrder) spread() {
	idle := p.roster.Idle()
	p.mu.Lock()
	resting := p.resting
	p.mu.Unlock()
	if resting > 0 || len(idle) == 0 {
		return
	}
	pulls := p.transfer.Pulls()
	count := make(map[*remote.Server]int)
	for _, o := range pulls {
		count[o.Server]++
	}
	var longest Pull
	for _, o := range pulls {
		lasts := o.Ticks >= spreadAfter && o.Left >= spreadAfter*rank.Tick.Seconds()
		if !o.Given && lasts && count[o.Server] > 1 && o.Left > longest.Left {
			longest = o
		}
	}
	if longest.pull == nil || longest.pull.span.arrival.isAlone() {
		return
	}
	may := p.job(nil).May
	for _, s := range idle {
		if may(s) && !s.Rangeless() {
			p.transfer.GiveUp(longest, move{s})
			return
		}
	}
}
