package verify

import "context"

// some waits for a part of the shards, which are checked one by one.
type some struct {
	count int
	kept  chan int // shards that are right
}

func newSome(opts Options) *some {
	return &some{count: len(opts.Part), kept: make(chan int, len(opts.Part))}
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
