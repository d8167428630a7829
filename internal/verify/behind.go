package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"sync"

	"github.com/shardcast/shardcast/internal/shard"
)

// behind computes the digests of the file from the places of shards that were right, in
// their order, while the others come.
type behind struct {
	opts Options
	kept chan int // shards that are right, and in their places
}

func newBehind(opts Options) *behind {
	return &behind{opts: opts, kept: make(chan int, len(opts.Manifest.Shards))}
}

// whole reads all shards. It computes the BLAKE3 only where it may be what is listed, or
// is asked for.
func (b *behind) whole(ctx context.Context) (sha256, blake3 shard.Digest, err error) {
	m := b.opts.Manifest
	whole := newSums(!b.opts.Signed, b.opts.BLAKE3 || b.opts.Plain || m.Digest != b.opts.Listed)
	defer whole.close()
	kept := make([]bool, len(m.Shards))
	for i := range kept {
		for !kept[i] {
			select {
			case number := <-b.kept:
				kept[number-1] = true
			case <-ctx.Done():
				return sha256, blake3, context.Cause(ctx)
			}
		}
		s := m.Shard(i + 1)
		place, err := b.opts.Open(s)
		if err != nil {
			return sha256, blake3, err
		}
		n, err := whole.add(io.NewSectionReader(place, 0, s.Size))
		if err == nil && n < s.Size {
			err = io.ErrUnexpectedEOF
		}
		if err := errors.Join(err, place.Close()); err != nil {
			return sha256, blake3, err
		}
	}
	if sha256, blake3 = whole.digests(); b.opts.Signed {
		sha256 = m.Digest
	}
	return sha256, blake3, nil
}

// sums are the digests of a file, computed beside one another.
type sums struct {
	sha256 hash.Hash // or nil
	blake3 hash.Hash // or nil; it is written to by a goroutine of its own

	buf        []byte        // that is read into without the BLAKE3
	full, free chan []byte   // buffers that are read into with it, on the way there and back
	done       chan struct{} // closed when all has been hashed
	ended      sync.Once
}

const (
	// sumsBehind is how many buffers the BLAKE3 may be behind the SHA-256. With one, each
	// would wait for the other to be woken.
	sumsBehind = 4

	// sumsBuffer in bytes is read at once: large enough for the page cache, and small
	// enough for the processor's.
	sumsBuffer = 256 << 10
)

// newSums returns sums of nothing yet, of those digests that are wanted. The caller closes them
// in the end.
func newSums(ofSHA256, ofBLAKE3 bool) *sums {
	s := new(sums)
	if ofSHA256 {
		s.sha256 = sha256.New()
	}
	if !ofBLAKE3 {
		s.buf = make([]byte, sumsBuffer)
		return s
	}
	s.blake3 = shard.NewBLAKE3()
	s.full, s.free = make(chan []byte, sumsBehind), make(chan []byte, sumsBehind)
	s.done = make(chan struct{})
	for range sumsBehind {
		s.free <- make([]byte, sumsBuffer)
	}
	go func() {
		defer close(s.done)
		for p := range s.full {
			_, _ = s.blake3.Write(p)
			s.free <- p[:cap(p)]
		}
	}()
	return s
}

// add takes all of r as the next bytes, and returns how many those are.
func (s *sums) add(r io.Reader) (size int64, err error) {
	for {
		buf := s.buf
		if s.blake3 != nil {
			buf = <-s.free
		}
		n, err := r.Read(buf)
		if s.blake3 != nil {
			s.full <- buf[:n]
		}
		if s.sha256 != nil {
			_, _ = s.sha256.Write(buf[:n])
		}
		size += int64(n)
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return size, err
		}
	}
}

// close ends what newSums has begun.
func (s *sums) close() {
	s.ended.Do(func() {
		if s.blake3 != nil {
			close(s.full)
			<-s.done
		}
	})
}

// digests closes s and returns both digests of all that was written, zero if they were not
// computed.
func (s *sums) digests() (sha256, blake3 shard.Digest) {
	s.close()
	if s.sha256 != nil {
		s.sha256.Sum(sha256[:0])
	}
	if s.blake3 != nil {
		s.blake3.Sum(blake3[:0])
	}
	return sha256, blake3
}
