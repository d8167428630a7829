package fetch

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"sync"

	"github.com/shardcast/shardcast/internal/shard"
)

// sums are the digests of a file, computed beside one another.
type sums struct {
	sha256 hash.Hash
	blake3 hash.Hash // or nil; it is written to by a goroutine of its own

	buf        []byte        // what is read into without the BLAKE3
	full, free chan []byte   // what is read into with it, on the way there and back
	done       chan struct{} // closed when all has been hashed
	ended      sync.Once
}

// sumsBehind is how many buffers the BLAKE3 may be behind the SHA-256. With one, each
// would wait for the other to be woken.
const sumsBehind = 4

// newSums returns sums of nothing yet, with the BLAKE3 or without. They are closed in
// the end.
func newSums(both bool) *sums {
	s := &sums{sha256: sha256.New()}
	if !both {
		s.buf = make([]byte, copyBuffer)
		return s
	}
	s.blake3 = shard.NewBLAKE3()
	s.full, s.free = make(chan []byte, sumsBehind), make(chan []byte, sumsBehind)
	s.done = make(chan struct{})
	for range sumsBehind {
		s.free <- make([]byte, copyBuffer)
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
		_, _ = s.sha256.Write(buf[:n])
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

// digests closes s and returns both digests of all that was written, the second one zero
// if it was not computed.
func (s *sums) digests() (sha, blake shard.Digest) {
	s.close()
	s.sha256.Sum(sha[:0])
	if s.blake3 != nil {
		s.blake3.Sum(blake[:0])
	}
	return sha, blake
}
