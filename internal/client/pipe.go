package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

// pipe writes the shards of an output to a writer in their order, each when it is right and all
// before it are written, while others come.
type pipe struct {
	out   *output
	to    io.Writer
	right chan int // numbers of shards, with room for all
	stop  context.CancelCauseFunc

	bytes atomic.Int64 // that were written
	done  chan struct{}
	err   error // once done is closed
}

// pipeEnd is how long the end of a write is waited for: a reader that has stopped does not
// hold up the end of a download.
const pipeEnd = time.Second

// errPiped ends a download of which a part was written, and then turned out to be wrong.
var errPiped = errors.New("what was written is not the version")

// startPipe writes the shards of m, whose digests are all stated, from out to d.To, until ctx
// ends or the pipe is ended. It calls failed with an error of d.To.
func startPipe(ctx context.Context, out *output, m shard.Manifest, to io.Writer, failed func(error)) *pipe {
	p := &pipe{out: out, to: to, right: make(chan int, len(m.Shards)), done: make(chan struct{})}
	ctx, p.stop = context.WithCancelCause(ctx)
	go func() {
		defer close(p.done)
		if p.err = p.run(ctx, m); p.err != nil && ctx.Err() == nil {
			failed(local{p.err})
		}
	}()
	return p
}

func (p *pipe) run(ctx context.Context, m shard.Manifest) error {
	right := make([]bool, len(m.Shards))
	for i := range right {
		for !right[i] {
			select {
			case number := <-p.right:
				right[number-1] = true
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		s := m.Shard(i + 1)
		n, err := copyTo(ctx, p.to, io.NewSectionReader(p.out.content, s.Offset, s.Size))
		p.bytes.Add(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// wait waits until all is written, or ctx ends.
func (p *pipe) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// end ends the writing, and returns how many bytes were written. A nil pipe has none.
func (p *pipe) end() int64 {
	if p == nil {
		return 0
	}
	p.stop(errPiped)
	select {
	case <-p.done:
	case <-time.After(pipeEnd):
	}
	return p.bytes.Load()
}

// pipeable reports whether the shards of a manifest can be verified one by one.
func pipeable(m fetch.Manifest) bool {
	return m.Source != nil && !slices.Contains(m.Stated.Shards, shard.Digest{})
}

// broken is the error of a download that ended with err after so many bytes were written: none
// that another version, or another attempt, would mend.
func broken(err error, bytes int64) error {
	if err == nil || bytes == 0 {
		return err
	}
	if errors.Is(err, errPiped) {
		err = fmt.Errorf("%w: %w", fetch.ErrIntegrity, err)
	}
	if errors.Is(err, fetch.ErrIntegrity) {
		err = fmt.Errorf("%w; %d bytes were written to the output before", err, bytes)
	}
	return local{err}
}
