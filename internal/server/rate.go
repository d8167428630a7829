package server

import (
	"context"
	"io"

	"github.com/shardcast/shardcast/internal/bucket"
)

// throttled reads a shard no faster than its buckets fill. It sits on this side of
// the copy, not around the [http.ResponseWriter], for what was read to go to the
// socket at once and not to a buffer on the way.
type throttled struct {
	io.ReadSeeker

	ctx     context.Context //nolint:containedctx // of the request, whose end frees who waits
	buckets []*bucket.Bucket
}

// throttle returns content as buckets let it be read: itself if there are none, so
// that the kernel can send it.
func throttle(ctx context.Context, content io.ReadSeeker, buckets []*bucket.Bucket) io.ReadSeeker {
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
