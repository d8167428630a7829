package server

import "time"

// shortest bounds the time over which a speed is computed: an operating system takes the
// first bytes for a new client at once, however slowly that client reads.
const shortest = time.Second

// speed returns bytes per second.
func speed(bytes int64, over time.Duration) int64 {
	return int64(float64(bytes) / max(over, shortest).Seconds())
}

// meter computes the speed of a counter that began at 0. One goroutine at a time may use it.
type meter struct {
	before, last struct {
		at    time.Time
		total int64
	}
}

func newMeter(now time.Time) (m meter) {
	m.before.at, m.last.at = now, now
	return m
}

// mark takes the counter's total, every [status.SampleEvery].
func (m *meter) mark(now time.Time, total int64) {
	m.before = m.last
	m.last.at, m.last.total = now, total
}

// speed returns the speed since the mark before the last: over five to ten seconds.
func (m *meter) speed(now time.Time, total int64) int64 {
	return speed(total-m.before.total, now.Sub(m.before.at))
}
