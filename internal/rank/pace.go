package rank

import (
	"slices"
	"time"
)

const (
	// Tick is the time between two looks at a transfer.
	Tick = 250 * time.Millisecond

	// Recent is the number of ticks that make up a transfer's speed: 5 s.
	Recent = 20

	// history is the number of ticks that are remembered of a transfer: a minute.
	history = 240

	// Crawl is the part of the usual speed below which a transfer is too slow.
	Crawl = 0.1
)

// A Pace is the number of bytes that one transfer received in each of the last ticks.
// The zero value has seen no tick. It is for one goroutine at a time.
type Pace struct {
	ticks [history]int64 // a ring
	count int            // of all ticks so far
}

// Add adds a tick in which the transfer received bytes.
func (p *Pace) Add(bytes int64) {
	p.ticks[p.count%history] = bytes
	p.count++
}

// Count returns the number of ticks.
func (p *Pace) Count() int { return p.count }

// Last returns the bytes of the newest n ticks, or of all if there are fewer.
func (p *Pace) Last(n int) (bytes int64) {
	for i := max(0, p.count-n); i < p.count; i++ {
		bytes += p.ticks[i%history]
	}
	return bytes
}

// Speed is that of the last five seconds, in bytes per second.
func (p *Pace) Speed() float64 {
	if p.count == 0 {
		return 0
	}
	return float64(p.Last(Recent)) / (float64(min(p.count, Recent)) * Tick.Seconds())
}

// usual is the median of the ticks before the recent ones, in bytes per second.
// It is not known before there are as many of them.
func (p *Pace) usual() (float64, bool) {
	first, end := max(0, p.count-history), p.count-Recent
	if end-first < Recent {
		return 0, false
	}
	before := make([]float64, 0, end-first)
	for i := first; i < end; i++ {
		before = append(before, float64(p.ticks[i%history])/Tick.Seconds())
	}
	return Median(before), true
}

// Crawls reports whether the transfer delivers less than a tenth of its usual speed, or
// of the median of the speeds of others. It is given patience ticks first, at least five
// seconds.
func (p *Pace) Crawls(others []float64, patience int) bool {
	if p.count < max(patience, Recent) {
		return false
	}
	speed := p.Speed()
	if usual, ok := p.usual(); ok && speed < Crawl*usual {
		return true
	}
	return len(others) > 0 && speed < Crawl*Median(others)
}

// Median returns the median of values, of which there must be one, and sorts them.
func Median(values []float64) float64 {
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}
