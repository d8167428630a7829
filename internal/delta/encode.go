package delta

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Stream is a base or a target: bytes that can be read at any place, from several goroutines at a time. An
// [io.SectionReader] is one.
type Stream interface {
	io.ReaderAt
	Size() int64
}

// Stats tell of what a delta consists.
type Stats struct {
	Size    int64 // bytes of the delta
	Equal   int64 // bytes of the target in blocks that are equal to the base
	Literal int64 // bytes of the target that have no prediction
	Changed int64 // bytes in lanes of the target that differ from their prediction
}

func (s *Stats) add(other Stats) {
	s.Size += other.Size
	s.Equal += other.Equal
	s.Literal += other.Literal
	s.Changed += other.Changed
}

// workers is how many goroutines work on the blocks of a target: as many as can run, and as fit into 24 MiB.
func workers(target int64, memory int) int {
	blocks := (target + BlockSize - 1) / BlockSize
	return int(min(blocks, int64(runtime.GOMAXPROCS(0)), int64(24<<20/memory)))
}

// encoderMemory is about the most that a goroutine takes that encodes.
const encoderMemory = 12 << 20

// Encode writes to w a delta that turns base into target. It is small where copies predict the target well, and
// never larger than the target by more than 1 in 10,000. Of the same streams and copies it makes the same bytes.
//
// Writes to w are of some 64 KiB, and never two at a time. An error of w ends the encoding, so a writer can limit
// the size. Errors of w and of the streams are wrapped; those for copies match [ErrCopies].
func Encode(ctx context.Context, w io.Writer, base, target Stream, copies []Copy) (Stats, error) {
	if err := checkCopies(copies, base.Size(), target.Size()); err != nil {
		return Stats{}, err
	}
	e := &encoding{base: base, target: target, copies: copies, counted: counter{w: w}}
	e.out = bufio.NewWriterSize(&e.counted, 64<<10)
	e.turn = make(chan struct{})
	close(e.turn)
	if _, err := e.out.Write(Header{BaseSize: base.Size(), TargetSize: target.Size()}.append(nil)); err != nil {
		return Stats{}, err
	}
	group, ctx := errgroup.WithContext(ctx)
	for range workers(target.Size(), encoderMemory) {
		group.Go(func() error { return e.work(ctx) })
	}
	if err := group.Wait(); err != nil {
		return Stats{}, err
	}
	err := e.run.flush(e.out)
	if err == nil {
		err = e.out.Flush()
	}
	e.stats.Size = e.counted.n
	return e.stats, err
}

// encoding is one call of Encode. Its goroutines take blocks in order, and write them in order: each waits for its
// turn.
type encoding struct {
	base, target Stream
	copies       []Copy

	mu   sync.Mutex    // guards these
	next int64         // offset of the next block
	turn chan struct{} // closed when the next block may be written

	// These belong to the goroutine whose turn it is.
	out     *bufio.Writer
	counted counter
	run     run
	stats   Stats
}

// take returns the next block, a channel that is closed when its turn has come, and one to be closed when it is over.
func (e *encoding) take() (offset int64, n int, mine <-chan struct{}, over chan<- struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	offset, mine = e.next, e.turn
	n = int(min(BlockSize, e.target.Size()-offset))
	e.next += int64(n)
	next := make(chan struct{})
	e.turn = next
	return offset, n, mine, next
}

func (e *encoding) work(ctx context.Context) error {
	block, err := newBlockEncoder(int(min(BlockSize, e.target.Size())))
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		offset, n, mine, over := e.take()
		if n == 0 {
			return nil
		}
		shift, err := block.encode(e.copies, e.base, e.target, offset, n)
		if err != nil {
			return err
		}
		select {
		case <-mine:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := e.write(block, shift); err != nil {
			return err
		}
		close(over)
	}
	return context.Cause(ctx)
}

func (e *encoding) write(block *blockEncoder, shift int64) error {
	e.stats.add(block.counts)
	if len(block.body) == 0 {
		return e.run.add(e.out, shift)
	}
	if err := e.run.flush(e.out); err != nil {
		return err
	}
	if _, err := e.out.Write(binary.AppendUvarint(nil, uint64(len(block.body)))); err != nil {
		return err
	}
	_, err := e.out.Write(block.body)
	return err
}

// run is a number of blocks, one after the other, that are equal to the base at the same shift.
type run struct {
	blocks int64
	shift  int64
}

func (r *run) add(w io.Writer, shift int64) error {
	if r.blocks > 0 && r.shift != shift {
		if err := r.flush(w); err != nil {
			return err
		}
	}
	r.shift = shift
	r.blocks++
	return nil
}

func (r *run) flush(w io.Writer) error {
	if r.blocks == 0 {
		return nil
	}
	record := binary.AppendVarint(binary.AppendUvarint([]byte{0}, uint64(r.blocks)), r.shift)
	r.blocks = 0
	_, err := w.Write(record)
	return err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
