// Package bucket keeps a flow of bytes at a steady rate, for whoever sends or
// receives them: each takes from a bucket what it is about to pass on. It knows
// nothing of where bytes come from.
package bucket

import (
	"context"
	"math"
	"time"

	"golang.org/x/time/rate"
)

const (
	// burstsPerSecond says how much of its rate a bucket holds, 50 ms: little
	// enough for a steady flow, and more than a timer is ever late, so that what
	// was slept too long is made good and the rate is kept.
	burstsPerSecond = 20

	// minBurst in bytes keeps the headers of packets small beside what they carry.
	minBurst = 1 << 10

	// maxBurst in bytes is what fits an int everywhere: 50 ms at 43 GB/s.
	maxBurst = math.MaxInt32
)

// A Bucket is what may be sent or received, in bytes, filled at a steady rate. Those who share
// one take turns, in the order in which they have come.
type Bucket struct {
	limiter *rate.Limiter

	// turn is held by the one that waits for bytes. A limiter alone would let
	// everybody put down his name, and who leaves would not be taken off the list:
	// a thousand readers that come and go at once would stop the others for long.
	turn chan struct{}
}

// New returns a full bucket for bytesPerSecond, or nil if that is zero.
func New(bytesPerSecond int64) *Bucket {
	if bytesPerSecond == 0 {
		return nil
	}
	burst := min(max(bytesPerSecond/burstsPerSecond, minBurst), maxBurst)
	return &Bucket{rate.NewLimiter(rate.Limit(bytesPerSecond), int(burst)), make(chan struct{}, 1)}
}

// Take waits for n bytes, at most the burst. It returns an error only when ctx
// ends first, and then takes nothing.
func (b *Bucket) Take(ctx context.Context, n int) error {
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-b.turn }()
	return b.limiter.WaitN(ctx, n)
}

// Burst is how many bytes a full bucket holds.
func (b *Bucket) Burst() int { return b.limiter.Burst() }

// UntilFull is how long it takes for a bucket that nobody takes from to be full, to
// within a nanosecond; zero if it is, or is nil.
func (b *Bucket) UntilFull() time.Duration {
	if b == nil {
		return 0
	}
	missing := float64(b.limiter.Burst()) - b.limiter.Tokens()
	return time.Duration(missing / float64(b.limiter.Limit()) * float64(time.Second))
}
