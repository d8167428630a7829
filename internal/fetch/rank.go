package fetch

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
	// which would keep an upstream first for ever.
	minSample = time.Millisecond

	// poor is the part of the best throughput below which an upstream gets only what
	// is drawn for it.
	poor = 0.1

	// healing is the time in which half of what is missing to a full success
	// estimate comes back by itself, so that an upstream that failed is tried
	// again.
	healing = 10 * time.Second
)

// A Ranking estimates how good each of a number of upstreams is, and draws from
// them. Throughput (bytes per second) and success (0 to 1) are moving averages
// with weight 0.3 for the newest sample; a failure lowers success and leaves
// throughput as it is, so it never improves an estimate. Success heals with
// time, by half of what is missing in 10 s. Upstreams are drawn in proportion to
// the product. One without a sample counts as fast as the fastest, for it to be
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

// NewRanking returns a Ranking of n upstreams of which nothing is known.
func NewRanking(n int, now func() time.Time, draw func() float64) *Ranking {
	r := &Ranking{now: now, draw: draw, estimates: make([]estimate, n)}
	for i := range r.estimates {
		r.estimates[i] = estimate{success: 1, at: now()}
	}
	return r
}

// grow makes it a Ranking of n upstreams, which is no fewer than before.
func (r *Ranking) grow(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.estimates) < n {
		r.estimates = append(r.estimates, estimate{success: 1, at: r.now()})
	}
}

// forget makes upstream i one of which nothing is known.
func (r *Ranking) forget(i int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.estimates[i] = estimate{success: 1, at: r.now()}
}

// Pick draws one of the upstreams that ok approves of, and returns -1 if it
// approves of none.
func (r *Ranking) Pick(ok func(i int) bool) int {
	r.mu.Lock()
	approved := make([]bool, len(r.estimates))
	r.mu.Unlock()
	for i := range approved {
		approved[i] = ok(i) // without the lock: it may have to wait for another
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now, fastest := r.now(), cmp.Or(r.fastest(), 1) // without any sample all are alike
	weights := make([]float64, len(approved))
	var total float64
	picked := -1
	for i, e := range r.estimates[:len(approved)] {
		if approved[i] {
			// Never quite 0, for the last one left must be drawn however bad it is.
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

// fastest returns the best throughput, or 0 if there is no sample. The caller holds
// mu.
func (r *Ranking) fastest() (fastest float64) {
	for _, e := range r.estimates {
		fastest = max(fastest, e.throughput)
	}
	return fastest
}

// Throughput returns the estimate for upstream i, in bytes per second, and 0 if
// there is none.
func (r *Ranking) Throughput(i int) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.estimates[i].throughput
}

// Success returns the estimate for upstream i, from 0 to 1.
func (r *Ranking) Success(i int) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.estimates[i].successAt(r.now())
}

// Settled reports whether upstream i has succeeded or failed at anything, which until
// then it is only taken to do.
func (r *Ranking) Settled(i int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.estimates[i].settled
}

// Good reports whether upstream i is not to be left idle: it succeeds more often
// than not, and had a tenth of the best throughput in the last 10 s, as far as that
// is known. One that had less is tried again then.
func (r *Ranking) Good(i int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, now, fastest := r.estimates[i], r.now(), r.fastest()
	return e.successAt(now) >= 0.5 && (e.rate(fastest) >= poor*fastest || now.Sub(e.sampled) > healing)
}

// Delivered records that upstream i sent bytes in dur, as it should.
func (r *Ranking) Delivered(i int, bytes int64, dur time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := &r.estimates[i]
	sample := max(float64(bytes)/max(dur, minSample).Seconds(), 1) // 0 is for no sample
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

// Failed records that upstream i did not send what it should.
func (r *Ranking) Failed(i int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.estimates[i].settle(r.now(), 0)
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
