package status

import "time"

const (
	// SampleEvery is the time between two marks of a [Meter].
	SampleEvery = 5 * time.Second

	// MaxSamples bounds the samples of a [Throughput]: ten minutes.
	MaxSamples = 120

	// shortest bounds the time over which a speed is computed: an operating system takes
	// the first bytes for a new client at once, however slowly that client reads.
	shortest = time.Second
)

// Meter computes the speed of a counter. One goroutine at a time may use it.
type Meter struct{ before, last reading }

type reading struct {
	at    time.Time
	total int64
}

// NewMeter returns a Meter of a counter at total.
func NewMeter(now time.Time, total int64) Meter {
	r := reading{now, total}
	return Meter{r, r}
}

// Mark takes the counter's total, every [SampleEvery], and returns the speed since the last
// mark.
func (m *Meter) Mark(now time.Time, total int64) int64 {
	m.before, m.last = m.last, reading{now, total}
	return m.Speed(now, total)
}

// Speed returns the speed since the mark before the last: over five to ten seconds.
func (m *Meter) Speed(now time.Time, total int64) int64 {
	return int64(float64(total-m.before.total) / max(now.Sub(m.before.at), shortest).Seconds())
}
