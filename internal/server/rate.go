package server

import (
	"context"
	"io"
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

// bucket is what may be sent, in bytes, filled at a steady rate. Those who share
// one take turns, in the order in which they have come.
type bucket struct {
	limiter *rate.Limiter

	// turn is held by the one that waits for bytes. A limiter alone would let
	// everybody put down his name, and who leaves would not be taken off the list:
	// a thousand readers that come and go at once would stop the others for long.
	turn chan struct{}
}

// newBucket returns a full bucket for bytesPerSecond, or nil if that is zero.
func newBucket(bytesPerSecond int64) *bucket {
	if bytesPerSecond == 0 {
		return nil
	}
	burst := min(max(bytesPerSecond/burstsPerSecond, minBurst), maxBurst)
	return &bucket{rate.NewLimiter(rate.Limit(bytesPerSecond), int(burst)), make(chan struct{}, 1)}
}

// take waits for n bytes, at most the burst. It returns an error only when ctx
// ends first, and then takes nothing.
func (b *bucket) take(ctx context.Context, n int) error {
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-b.turn }()
	return b.limiter.WaitN(ctx, n)
}

// untilFull is how long it takes for a bucket that nobody takes from to be full, to
// within a nanosecond; zero if it is, or is nil.
func (b *bucket) untilFull() time.Duration {
	if b == nil {
		return 0
	}
	missing := float64(b.limiter.Burst()) - b.limiter.Tokens()
	return time.Duration(missing / float64(b.limiter.Limit()) * float64(time.Second))
}

// throttled reads a shard no faster than its buckets fill. It sits on this side of
// the copy, not around the [http.ResponseWriter], for what was read to go to the
// socket at once and not to a buffer on the way.
type throttled struct {
	io.ReadSeeker

	ctx     context.Context //nolint:containedctx // of the request, whose end frees who waits
	buckets []*bucket
}

// throttle returns content as buckets let it be read: itself if there are none, so
// that the kernel can send it.
func throttle(ctx context.Context, content io.ReadSeeker, buckets []*bucket) io.ReadSeeker {
	if len(buckets) == 0 {
		return content
	}
	return throttled{content, ctx, buckets}
}

// Read reads up to len(p) bytes when all buckets hold them.
func (t throttled) Read(p []byte) (int, error) {
	for _, b := range t.buckets {
		p = p[:min(len(p), b.limiter.Burst())]
	}
	for _, b := range t.buckets {
		if err := b.take(t.ctx, len(p)); err != nil {
			return 0, err
		}
	}
	return t.ReadSeeker.Read(p)
}
