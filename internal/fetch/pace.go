package fetch

import (
	"slices"
	"time"
)

const (
	// tick is how often transfers are looked at.
	tick = 250 * time.Millisecond

	// recent is the number of ticks that make up a transfer's speed.
	recent = 20

	// history is the number of ticks that are remembered of a transfer.
	history = 240

	// crawl is the part of the usual speed below which a transfer is abandoned.
	crawl = 0.1

	// remembered is how many finished transfers are compared with.
	remembered = 8

	// knownAfter is the number of ticks after which a transfer's speed says
	// something.
	knownAfter = 2
)

// pace is how many bytes one transfer has brought in each of the last ticks.
type pace struct {
	ticks [history]int64 // a ring
	count int            // of all ticks so far
}

func (p *pace) add(bytes int64) {
	p.ticks[p.count%history] = bytes
	p.count++
}

// last returns the bytes of the newest n ticks, or of all if there are fewer.
func (p *pace) last(n int) (bytes int64) {
	for i := max(0, p.count-n); i < p.count; i++ {
		bytes += p.ticks[i%history]
	}
	return bytes
}

// speed is that of the recent ticks, in bytes per second.
func (p *pace) speed() float64 {
	if p.count == 0 {
		return 0
	}
	return float64(p.last(recent)) / (float64(min(p.count, recent)) * tick.Seconds())
}

// usual is the median of the ticks before the recent ones, in bytes per second.
// It is not known before there are as many of them.
func (p *pace) usual() (float64, bool) {
	first, end := max(0, p.count-history), p.count-recent
	if end-first < recent {
		return 0, false
	}
	before := make([]float64, 0, end-first)
	for i := first; i < end; i++ {
		before = append(before, float64(p.ticks[i%history])/tick.Seconds())
	}
	return median(before), true
}

// crawls reports whether the transfer delivers far less than it used to, or than
// its peers do. It is given patience ticks first.
func (p *pace) crawls(peers []float64, patience int) bool {
	if p.count < max(patience, recent) {
		return false
	}
	speed := p.speed()
	if usual, ok := p.usual(); ok && speed < crawl*usual {
		return true
	}
	return len(peers) > 0 && speed < crawl*median(peers)
}

// median sorts values, of which there must be one.
func median(values []float64) float64 {
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}
