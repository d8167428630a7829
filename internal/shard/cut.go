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
	// cutBuffer in bytes is the size of one read: small enough for the three passes over it
	// to find it in the processor's cache.
	cutBuffer = 256 << 10

	// cutBuffers bounds the memory of a cut, and how far reading, hashing and
	// writing may run apart.
	cutBuffers = 16

	// commitsBehind bounds the shards that are whole and not yet synced while later ones are cut, so
	// that a disk that is slower than the cut slows it down rather than filling memory with
	// unwritten pages. Of small ones as many may be as have bytesBehind bytes, up to
	// mostBehind: one sync of a journal serves all that were written before it.
	commitsBehind, bytesBehind, mostBehind = 4, 8 << 20, 64
)

// ErrChanged means that a file's size is not the announced one.
var ErrChanged = errors.New("the file changed while it was being cut")

// A Writer takes the bytes of one shard. Commit makes them last: the shard is kept only when
// it has returned nil. Close after Commit does nothing; Close without Commit discards the
// shard.
type Writer interface {
	io.WriteCloser
	Commit() error
}

// A Flusher is a [Writer] that begins, when it is asked to, to make its bytes last, without waiting for
// that: then its Commit takes less time. [Cut] calls Flush once, before Commit.
type Flusher interface{ Flush() error }

// UnknownSize in place of a size means that it is not known before the end.
const UnknownSize = -1

// A Plan describes a cut.
type Plan struct {
	// Size is the file's, in bytes, or [UnknownSize].
	Size int64

	// ShardSize is that of every shard but the last, in bytes.
	ShardSize int64

	// Create returns the writer of a shard. [Cut] calls it once a shard, in order.
	Create func(number int) (Writer, error)

	// Also takes all bytes of the file, in order, beside the digests. Nil takes nothing.
	Also func(p []byte)

	// BLAKE3 has that of the file computed.
	BLAKE3 bool

	// Has reports whether a shard of that digest is there already, and puts it in its place:
	// then its writer is closed without Commit. It is called for several shards at the same
	// time. Nil means that none is.
	Has func(number int, digest Digest) bool
}

// Cut reads plan.Size bytes from src, which must end there, or all bytes up to the end of src
// if that is not known, and writes them as shards to the writers of plan.Create. It returns a
// manifest without name and date. It makes one pass: the file's digests, the shards'
// digests, plan.Also and the writing run beside one another, and shards are committed while later ones
// are cut.
//
// Errors are those of src, of plan.Create and of its writers, [ErrChanged] if src has more
// or less than plan.Size bytes, and the cause of the end of ctx.
func Cut(ctx context.Context, src io.Reader, plan Plan) (Manifest, error) {
	size := plan.Size
	if size == UnknownSize {
		size = 0
	}
	if err := CheckSize(size, plan.ShardSize); err != nil {
		return Manifest{}, err
	}
	m := Manifest{Size: plan.Size, ShardSize: plan.ShardSize}
	group, ctx := errgroup.WithContext(ctx)
	c := &cut{
		plan: plan,
		free: make(chan *buffer, cutBuffers),
	}
	for _, to := range []*chan *buffer{&c.toBLAKE3, &c.toSums, &c.toDisk, &c.toAlso} {
		*to = make(chan *buffer, cutBuffers)
	}
	for range cutBuffers {
		c.free <- &buffer{space: make([]byte, cutBuffer)}
	}
	group.Go(func() (err error) {
		m.Size, err = c.read(ctx, src)
		return err
	})
	if plan.BLAKE3 {
		group.Go(func() error {
			blake3 := NewBLAKE3()
			for p := range c.toBLAKE3 {
				_, _ = blake3.Write(p.data)
				c.release(p)
			}
			m.BLAKE3 = sum(blake3)
			return nil
		})
	}
	group.Go(func() error {
		sums := NewSums(c.plan.ShardSize)
		for p := range c.toSums {
			_, _ = sums.Write(p.data)
			if p.last {
				digest := sums.EndShard()
				m.Shards = append(m.Shards, digest)
				p.digest <- digest
			}
			c.release(p)
		}
		m.Digest = sums.Whole()
		return nil
	})
	if plan.Also != nil {
		group.Go(func() error {
			for p := range c.toAlso {
				plan.Also(p.data)
				c.release(p)
			}
			return nil
		})
	}
	group.Go(func() error { return c.write(group) })
	if err := group.Wait(); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// sum returns the digest of all bytes that h was given.
func sum(h hash.Hash) (d Digest) {
	h.Sum(d[:0])
	return d
}

// cut is one run of [Cut]: every buffer goes from the reader to two users, up to four, and back
// to the free ones.
type cut struct {
	plan Plan

	free                             chan *buffer
	toBLAKE3, toSums, toDisk, toAlso chan *buffer
	looking, committing              chan struct{} // have room for those that do so at the same time
}

// buffer holds a part of one shard, never of two.
type buffer struct {
	space []byte
	data  []byte // the part of space that was read
	shard int    // the number of the shard that data belongs to
	last  bool   // the shard ends with data
	users atomic.Int32

	digest chan Digest // of the shard, if it ends with data; has room for it
}

// release gives p back once all its users have done so.
func (c *cut) release(p *buffer) {
	if p.users.Add(-1) == 0 {
		c.free <- p
	}
}

// read fills buffers from src and hands them out, and returns the number of bytes. It ends
// the other goroutines by closing their channels.
func (c *cut) read(ctx context.Context, src io.Reader) (size int64, err error) {
	defer close(c.toBLAKE3)
	defer close(c.toSums)
	defer close(c.toDisk)
	defer close(c.toAlso)
	for ended := false; !ended && size != c.plan.Size; {
		var p *buffer
		select {
		case p = <-c.free:
		case <-ctx.Done():
			return size, context.Cause(ctx)
		}
		if ended, err = c.fill(p, src, size); err != nil {
			return size, err
		}
		size += int64(len(p.data))
		if len(p.data) == 0 && !p.last {
			break // the file has ended with the shard before
		}
		users := int32(2)
		if c.plan.Also != nil {
			users++
		}
		if c.plan.BLAKE3 {
			users++
		}
		p.users.Store(users)
		if c.plan.Also != nil {
			c.toAlso <- p
		}
		if c.plan.BLAKE3 {
			c.toBLAKE3 <- p
		}
		c.toSums <- p
		c.toDisk <- p
	}
	if c.plan.Size == UnknownSize {
		return size, nil
	}
	if n, err := io.ReadFull(src, make([]byte, 1)); n > 0 {
		return size, fmt.Errorf("%w: it goes on after its %d bytes", ErrChanged, c.plan.Size)
	} else if !errors.Is(err, io.EOF) {
		return size, err
	}
	return size, nil
}

// fill reads bytes of one shard from src, which begin at offset in the file, into p, and
// reports whether the file has ended. A shard that is shorter than others may end with no
// bytes.
func (c *cut) fill(p *buffer, src io.Reader, offset int64) (ended bool, err error) {
	inShard := offset % c.plan.ShardSize
	left := c.plan.ShardSize - inShard
	if c.plan.Size != UnknownSize {
		left = min(left, c.plan.Size-offset)
	}
	p.shard = int(offset/c.plan.ShardSize) + 1
	n, err := io.ReadFull(src, p.space[:min(int64(len(p.space)), left)])
	p.data = p.space[:n]
	ended = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	switch {
	case err != nil && !ended:
		return false, err
	case ended && c.plan.Size != UnknownSize:
		return true, fmt.Errorf("%w: it ends before its %d bytes", ErrChanged, c.plan.Size)
	case n > 0 && p.shard > MaxShards:
		return false, fmt.Errorf("more than %d shards of %d bytes: use a larger shard size",
			MaxShards, c.plan.ShardSize)
	}
	if p.last = int64(n) == left || ended && inShard+int64(n) > 0; p.last {
		p.digest = make(chan Digest, 1)
	}
	return ended, nil
}

// write writes buffers to their shards, and has group commit each that is whole. When it
// returns an error the reader goes on: the channels have room for all buffers.
func (c *cut) write(group *errgroup.Group) (err error) {
	behind := make(chan struct{}, min(max(commitsBehind, bytesBehind/c.plan.ShardSize), mostBehind))
	c.looking, c.committing = make(chan struct{}, commitsBehind), make(chan struct{}, commitsBehind)
	var out Writer
	defer func() {
		if out != nil {
			err = errors.Join(err, out.Close())
		}
	}()
	for p := range c.toDisk {
		if out == nil {
			if out, err = c.plan.Create(p.shard); err != nil {
				return err
			}
		}
		if _, err := out.Write(p.data); err != nil {
			return err
		}
		if p.last {
			whole, number, digest := out, p.shard, p.digest
			out = nil
			behind <- struct{}{}
			group.Go(func() error {
				defer func() { <-behind }()
				return errors.Join(c.commit(whole, number, digest), whole.Close())
			})
		}
		c.release(p)
	}
	return nil
}

// commit makes a shard last, unless one of that digest is there.
func (c *cut) commit(whole Writer, number int, digest <-chan Digest) error {
	if c.plan.Has != nil {
		c.looking <- struct{}{}
		has := c.plan.Has(number, <-digest)
		<-c.looking
		if has {
			return nil
		}
	}
	if early, ok := whole.(Flusher); ok {
		if err := early.Flush(); err != nil {
			return err
		}
	}
	c.committing <- struct{}{}
	defer func() { <-c.committing }()
	return whole.Commit()
}
