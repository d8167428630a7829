package bucket

import (
	"context"
	"io"
)

// throttled reads no faster than its buckets fill. It sits on this side of a copy, not around the
// writer, so that the bytes go to the socket at once and not to a buffer on the way.
type throttled struct {
	io.ReadSeeker

	ctx     context.Context //nolint:containedctx // of the request, whose end ends the waiting
	buckets []*Bucket
}

// Throttle returns content as buckets let it be read until ctx ends: itself without buckets, so
// that the kernel can send it.
func Throttle(ctx context.Context, content io.ReadSeeker, buckets []*Bucket) io.ReadSeeker {
	if len(buckets) == 0 {
		return content
	}
	return throttled{content, ctx, buckets}
}

// Read reads up to len(p) bytes when all buckets hold them.
func (t throttled) Read(p []byte) (int, error) {
	for _, b := range t.buckets {
		p = p[:min(len(p), b.Burst())]
	}
	for _, b := range t.buckets {
		if err := b.Take(t.ctx, len(p)); err != nil {
			return 0, err
		}
	}
	return t.ReadSeeker.Read(p)
}
