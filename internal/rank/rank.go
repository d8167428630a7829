// Package rank estimates how good each of n servers is, and says whether a transfer is
// too slow. It refuses to know what the servers are: they are numbers from 0.
//
// A caller may lean on this: a failure never improves an estimate, an estimate is never
// infinite or NaN, and a server that was bad heals with time.
//
//   - [Ranking] estimates throughput and success of servers, and draws from them.
//   - [Pace] records what one transfer received in each tick, and compares it with its
//     own past and with other transfers.
package rank

import (
	"cmp"
	"math"
	"sync"
	"time"
)

const (
	// weight of the newest sample in the moving averages.
	weight = 0.3

	// minSample is the shortest transfer that says anything about throughput.
	// Below it the clock's grain decides the quotient, and zero would give +Inf,
	// which would keep a server first for ever.
	minSample = time.Millisecond

	// poor is the part of the best throughput below which a server is used only when it is
	// drawn, and not because it is idle.
	poor = 0.1

	// healing is the time in which a success estimate makes up half of its distance to 1
	// by itself, so that a server that failed is tried again.
	healing = 10 * time.Second
)

// A Ranking estimates how good each of a number of servers is, and draws from them.
// Throughput (bytes per second) and success (0 to 1) are moving averages with weight 0.3
// for the newest sample. A failure lowers success and leaves throughput as it is. Success
// heals with time, by half of its distance to 1 in 10 s. Servers are drawn in proportion
// to the product. A server without a sample counts as fast as the fastest, so that it is
// tried.
//
// Its methods may be called from any goroutine.
type Ranking struct {
	now  func() time.Time
	draw func() float64 // uniform in [0, 1)

	mu        sync.Mutex // guards estimates
	estimates []estimate
}

type estimate struct {
	throughput float64 // 0: no sample yet
	sampled    time.Time
	settled    bool    // something has succeeded or failed
	success    float64 // as of the time at
	at         time.Time
}

// NewRanking returns a Ranking of n servers of which nothing is known. Draw returns
// numbers that are uniform in [0, 1).
func NewRanking(n int, now func() time.Time, draw func() float64) *Ranking {
	r := &Ranking{now: now, draw: draw}
	r.Grow(n)
	return r
}

// Grow makes r a Ranking of n servers; fewer than before change nothing.
func (r *Ranking) Grow(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.estimates) < n {
		r.estimates = append(r.estimates, estimate{success: 1, at: r.now()})
	}
}

// Pick draws one of the servers that ok approves of, and returns -1 if ok approves of
// none. It calls ok without a lock.
func (r *Ranking) Pick(ok func(i int) bool) int {
	r.mu.Lock()
	approved := make([]bool, len(r.estimates))
	r.mu.Unlock()
	for i := range approved {
		approved[i] = ok(i)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now, fastest := r.now(), cmp.Or(fastest(r.estimates), 1) // without any sample all are alike
	weights := make([]float64, len(approved))
	var total float64
	picked := -1
	for i, e := range r.estimates[:len(approved)] {
		if approved[i] {
			// Never quite 0, for the last server left must be drawn however bad it is.
			weights[i] = max(e.rate(fastest)*e.successAt(now), math.SmallestNonzeroFloat64)
			total += weights[i]
			picked = i // where rounding leaves nothing for the draw
		}
	}
	at := r.draw() * total
	for i, w := range weights {
		if at -= w; w > 0 && at < 0 {
			return i
		}
	}
	return picked
}

// fastest returns the best throughput, or 0 if there is no sample.
func fastest(estimates []estimate) (best float64) {
	for _, e := range estimates {
		best = max(best, e.throughput)
	}
	return best
}

// Throughput returns the estimate for server i, in bytes per second, and 0 if
// there is none.
func (r *Ranking) Throughput(i int) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.estimates[i].throughput
}

// Success returns the estimate for server i, from 0 to 1.
func (r *Ranking) Success(i int) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.estimates[i].successAt(r.now())
}

// Settled reports whether server i has succeeded or failed at anything. Before, its
// success is an assumption.
func (r *Ranking) Settled(i int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.estimates[i].settled
}

// Good reports whether server i should not be left idle: it succeeds more often than not,
// and had a tenth of the best throughput in the last 10 s, as far as that is known. A
// server that had less is tried again then.
func (r *Ranking) Good(i int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, now, best := r.estimates[i], r.now(), fastest(r.estimates)
	return e.successAt(now) >= 0.5 && (e.rate(best) >= poor*best || now.Sub(e.sampled) > healing)
}

// Delivered records that server i sent bytes in dur, as it should.
func (r *Ranking) Delivered(i int, bytes int64, dur time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := &r.estimates[i]
	sample := max(Speed(bytes, dur), 1) // 0 is for no sample
	if e.throughput == 0 {
		e.throughput = sample
	} else {
		e.throughput = weight*sample + (1-weight)*e.throughput
	}
	e.sampled = r.now()
	if bytes > 0 {
		e.settle(r.now(), 1)
	}
}

// Failed records that server i did not send what it should.
func (r *Ranking) Failed(i int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.estimates[i].settle(r.now(), 0)
}

// Speed returns bytes per second. A duration of less than a millisecond counts as one.
func Speed(bytes int64, dur time.Duration) float64 {
	return float64(bytes) / max(dur, minSample).Seconds()
}

// rate is the throughput, or unknown where there is no sample.
func (e estimate) rate(unknown float64) float64 { return cmp.Or(e.throughput, unknown) }

func (e estimate) successAt(now time.Time) float64 {
	return 1 - (1-e.success)*math.Exp2(-now.Sub(e.at).Seconds()/healing.Seconds())
}

// settle makes the outcome, 0 or 1, part of the success estimate.
func (e *estimate) settle(now time.Time, outcome float64) {
	e.settled = true
	e.success = weight*outcome + (1-weight)*e.successAt(now)
	e.at = now
}
