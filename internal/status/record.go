package status

import (
	"slices"
	"sync"
	"time"
)

const (
	// SampleEvery is how often a counter is looked at for its speed.
	SampleEvery = 5 * time.Second

	// MaxSamples is how many samples are kept: ten minutes.
	MaxSamples = 120
)

// A Meter tells how fast a counter has grown in the last five to ten seconds. It is for
// one goroutine at a time.
type Meter struct {
	before, last reading
}

// reading is what a counter has reached.
type reading struct {
	at    time.Time
	total int64
}

// NewMeter returns a Meter of a counter that has reached total.
func NewMeter(now time.Time, total int64) Meter {
	r := reading{now, total}
	return Meter{r, r}
}

// Mark is to be called every [SampleEvery] with what the counter has reached.
func (m *Meter) Mark(now time.Time, total int64) { m.before, m.last = m.last, reading{now, total} }

// Speed returns how fast the counter, which has reached total, has grown.
func (m *Meter) Speed(now time.Time, total int64) int64 {
	return m.before.speed(reading{now, total})
}

// shortest is the least time that says anything of a speed: what a system takes at once
// for somebody who has just come is not how fast he reads.
const shortest = time.Second

// speed returns how fast the counter has grown until later.
func (r reading) speed(later reading) int64 {
	return int64(float64(later.total-r.total) / max(later.at.Sub(r.at), shortest).Seconds())
}

// Sample is what went in and out in the [SampleEvery] before a time, on average.
type Sample struct {
	Time     time.Time `json:"time"`
	Sent     int64     `json:"sent"`
	Received *int64    `json:"received,omitempty"`
}

// A Recorder remembers how fast two counters have grown. Its methods may be called from
// any goroutine.
type Recorder struct {
	mu             sync.Mutex // guards what follows
	begun          bool
	sent, received reading
	samples        []Sample
}

// Record is to be called every [SampleEvery] with what the counters have reached. Received
// is nil where nothing ever comes in.
func (r *Recorder) Record(now time.Time, sent int64, received *int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out, in := reading{now, sent}, reading{at: now}
	if received != nil {
		in.total = *received
	}
	if r.begun {
		s := Sample{Time: now.UTC(), Sent: r.sent.speed(out)}
		if received != nil {
			speed := r.received.speed(in)
			s.Received = &speed
		}
		r.samples = append(r.samples[max(0, len(r.samples)-MaxSamples+1):], s)
	}
	r.begun, r.sent, r.received = true, out, in
}

// Samples returns those of the last ten minutes, the oldest first.
func (r *Recorder) Samples(now time.Time) []Sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	from := now.Add(-MaxSamples * SampleEvery)
	first := slices.IndexFunc(r.samples, func(s Sample) bool { return s.Time.After(from) })
	if first < 0 {
		return []Sample{}
	}
	return slices.Clone(r.samples[first:])
}
