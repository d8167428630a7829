package verify

import "context"

// some waits for a part of the shards, or for all of a file whose digest is not needed. They are
// checked one by one.
type some struct {
	count int
	kept  chan int // shards that are right
}

func newSome(opts Options) *some {
	count := len(opts.Part)
	if opts.Part == nil {
		count = len(opts.Manifest.Shards)
	}
	return &some{count: count, kept: make(chan int, count)}
}

// whole waits for all of the part.
func (s *some) whole(ctx context.Context) error {
	for range s.count {
		select {
		case <-s.kept:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
