package shard

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

const (
	// cutBuffer in bytes is what is read at once: small enough for the three
	// passes over it to find it in the processor's cache.
	cutBuffer = 256 << 10

	// cutBuffers bounds the memory of a cut, and how far reading, hashing and
	// writing may run apart.
	cutBuffers = 16

	// commitsBehind bounds the shards that are being synced while later ones are
	// cut. A disk that is slower than the cut holds it up, rather than filling
	// memory with unwritten pages.
	commitsBehind = 4
)

// ErrChanged is what [Cut] returns for a file whose size is not the announced
// one.
var ErrChanged = errors.New("the file changed while it was being cut")

// A Writer takes the bytes of one shard. Commit makes them last: only when it
// has returned nil is the shard kept. Close after Commit does nothing; Close
// without Commit gives the shard up.
type Writer interface {
	io.WriteCloser
	Commit() error
}

// A Plan says how a file is to be cut.
type Plan struct {
	// Size is the file's, in bytes.
	Size int64

	// ShardSize is that of every shard but the last, in bytes.
	ShardSize int64

	// Create returns the writer of a shard. It is called once a shard, in order.
	Create func(number int) (Writer, error)
}

// Cut reads plan.Size bytes from src, which must end there, and writes them as
// shards to the writers that plan.Create returns. It returns a manifest without name
// and date. One pass is made: the file's two digests, the shards' digests and the
// writing run beside one another, and shards are committed while later ones are cut.
//
// Errors are those of src, of plan.Create and of its writers, [ErrChanged] if src
// holds more or less than plan.Size bytes, and what ended ctx.
func Cut(ctx context.Context, src io.Reader, plan Plan) (Manifest, error) {
	if err := CheckSize(plan.Size, plan.ShardSize); err != nil {
		return Manifest{}, err
	}
	m := Manifest{Size: plan.Size, ShardSize: plan.ShardSize}
	group, ctx := errgroup.WithContext(ctx)
	c := &cut{
		Plan: plan,
		free: make(chan *buffer, cutBuffers),
	}
	for _, to := range []*chan *buffer{&c.toBLAKE3, &c.toSums, &c.toDisk} {
		*to = make(chan *buffer, cutBuffers)
	}
	for range cutBuffers {
		c.free <- &buffer{space: make([]byte, cutBuffer)}
	}
	group.Go(func() error { return c.read(ctx, src) })
	group.Go(func() error {
		blake3 := NewBLAKE3()
		for p := range c.toBLAKE3 {
			_, _ = blake3.Write(p.data)
			c.release(p)
		}
		m.BLAKE3 = sum(blake3)
		return nil
	})
	group.Go(func() error {
		sums := NewSums(c.ShardSize)
		for p := range c.toSums {
			_, _ = sums.Write(p.data)
			if p.last {
				m.Shards = append(m.Shards, sums.EndShard())
			}
			c.release(p)
		}
		m.Digest = sums.Whole()
		return nil
	})
	group.Go(func() error { return c.write(group) })
	if err := group.Wait(); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// sum returns what h has hashed so far.
func sum(h hash.Hash) (d Digest) {
	h.Sum(d[:0])
	return d
}

// cut is one run of [Cut]: every buffer goes from the reader to three users and
// back to the free ones.
type cut struct {
	Plan

	free                     chan *buffer
	toBLAKE3, toSums, toDisk chan *buffer
}

// buffer holds a part of one shard, never of two.
type buffer struct {
	space []byte
	data  []byte // what was read into space
	shard int    // the number of the shard that data belongs to
	last  bool   // the shard ends with data
	users atomic.Int32
}

// release gives p back once all three users have done so.
func (c *cut) release(p *buffer) {
	if p.users.Add(-1) == 0 {
		c.free <- p
	}
}

// read fills buffers from src and hands them out. It ends the other three by
// closing their channels.
func (c *cut) read(ctx context.Context, src io.Reader) error {
	defer close(c.toBLAKE3)
	defer close(c.toSums)
	defer close(c.toDisk)
	for offset := int64(0); offset < c.Size; {
		var p *buffer
		select {
		case p = <-c.free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		inShard := offset % c.ShardSize
		left := min(c.ShardSize-inShard, c.Size-offset)
		p.data = p.space[:min(int64(len(p.space)), left)]
		p.shard = int(offset/c.ShardSize) + 1
		p.last = int64(len(p.data)) == left
		if _, err := io.ReadFull(src, p.data); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: it ends before its %d bytes", ErrChanged, c.Size)
		} else if err != nil {
			return err
		}
		offset += int64(len(p.data))
		p.users.Store(3)
		c.toBLAKE3 <- p
		c.toSums <- p
		c.toDisk <- p
	}
	if n, err := io.ReadFull(src, make([]byte, 1)); n > 0 {
		return fmt.Errorf("%w: it goes on after its %d bytes", ErrChanged, c.Size)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// write writes buffers to their shards, and has group commit each that is whole.
// When it gives up, the reader is not held up: the channels have room for all
// the buffers that there are.
func (c *cut) write(group *errgroup.Group) (err error) {
	committing := make(chan struct{}, commitsBehind)
	var out Writer
	defer func() {
		if out != nil {
			err = errors.Join(err, out.Close())
		}
	}()
	for p := range c.toDisk {
		if out == nil {
			if out, err = c.Create(p.shard); err != nil {
				return err
			}
		}
		if _, err := out.Write(p.data); err != nil {
			return err
		}
		if p.last {
			whole := out
			out = nil
			committing <- struct{}{}
			group.Go(func() error {
				defer func() { <-committing }()
				return errors.Join(whole.Commit(), whole.Close())
			})
		}
		c.release(p)
	}
	return nil
}
