// Package bucket keeps a flow of bytes at a steady rate: senders and receivers take from a
// bucket the bytes that they are about to pass on. It refuses to know where bytes come from.
// All that share a bucket get the same, and one that leaves gives up its turn.
package bucket

import (
	"context"
	"math"
	"time"

	"golang.org/x/time/rate"
)

const (
	// burstsPerSecond sets the size of a bucket, 50 ms of its rate: little enough for a steady
	// flow, and more than a timer is ever late, so that the bucket makes up for a sleep that
	// was too long, and the rate is kept.
	burstsPerSecond = 20

	// minBurst in bytes keeps the headers of packets small beside their contents.
	minBurst = 1 << 10

	// maxBurst in bytes fits an int everywhere: 50 ms at 43 GB/s.
	maxBurst = math.MaxInt32
)

// A Bucket holds the bytes that may be sent or received, and fills at a steady rate. All that
// share one take turns, in the order of their calls.
type Bucket struct {
	limiter *rate.Limiter

	// turn holds a token of the one call that waits for bytes. A limiter alone would let all
	// calls reserve bytes, and keep the reservations of those that have left: a thousand
	// readers that come and go at once would stop the others for long.
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

// Take waits for n bytes, at most the burst. It returns an error only when ctx ends first, and
// then takes no bytes.
func (b *Bucket) Take(ctx context.Context, n int) error {
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-b.turn }()
	return b.limiter.WaitN(ctx, n)
}

// Burst is the number of bytes in a full bucket.
func (b *Bucket) Burst() int { return b.limiter.Burst() }

// UntilFull is the time until the bucket is full if no call takes from it, to within a
// nanosecond; zero if it is full, or nil.
func (b *Bucket) UntilFull() time.Duration {
	if b == nil {
		return 0
	}
	missing := float64(b.limiter.Burst()) - b.limiter.Tokens()
	return time.Duration(missing / float64(b.limiter.Limit()) * float64(time.Second))
}
