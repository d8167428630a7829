package shard

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
)

// blockSize in bytes is SHA-256's unit of work.
const blockSize = sha256.BlockSize

// Sums are the digests of a file and of its shards, of bytes that are written in order. On
// amd64 with the SHA extensions both take little more time than one, if the shard size is a
// multiple of 64 bytes: the blocks of both are then the same. Elsewhere each is computed by
// itself, beside the other.
//
// NewSums makes them, and one goroutine at a time uses them.
type Sums struct {
	// Where blocks is used:
	whole, shard [8]uint32
	rest         []byte // of the last block, less than a whole one
	size, start  int64  // bytes written; of those before the shard

	// And where it is not, for one that is not nil:
	slow, slowShard hash.Hash
}

// initial is the state of FIPS 180-4, section 5.3.3.
var initial = [8]uint32{
	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
}

// NewSums returns the Sums of nothing yet, of a file with shards of shardSize bytes.
func NewSums(shardSize int64) *Sums {
	if !hasBlocks || shardSize%blockSize != 0 {
		return &Sums{slow: sha256.New(), slowShard: sha256.New()}
	}
	return &Sums{whole: initial, shard: initial, rest: make([]byte, 0, blockSize)}
}

// Write takes the next bytes, of one shard. It never fails.
func (s *Sums) Write(p []byte) (int, error) {
	if s.slow != nil {
		var both sync.WaitGroup
		both.Go(func() { s.slowShard.Write(p) })
		s.slow.Write(p)
		both.Wait()
		return len(p), nil
	}
	size := len(p)
	s.size += int64(size)
	if len(s.rest) > 0 {
		n := min(blockSize-len(s.rest), len(p))
		s.rest = append(s.rest, p[:n]...)
		p = p[n:]
		if len(s.rest) < blockSize {
			return size, nil
		}
		blocks(&s.whole, &s.shard, &s.rest[0], 1)
		s.rest = s.rest[:0]
	}
	if n := len(p) / blockSize; n > 0 {
		blocks(&s.whole, &s.shard, &p[0], n)
		p = p[n*blockSize:]
	}
	s.rest = append(s.rest, p...)
	return size, nil
}

// Clone returns Sums of the same bytes that go on by themselves.
func (s *Sums) Clone() *Sums {
	c := *s
	c.rest = append(make([]byte, 0, blockSize), s.rest...)
	if s.slow != nil {
		c.slow, c.slowShard = clone(s.slow), clone(s.slowShard)
	}
	return &c
}

// clone copies a hash of crypto/sha256, all of which can be copied.
func clone(h hash.Hash) hash.Hash {
	c, _ := h.(hash.Cloner).Clone() //nolint:forcetypeassert // see above
	return c
}

// EndShard returns the digest of the bytes since the last call, which are a shard, and begins
// the next one. After a shard of another size than the shard size no bytes may follow.
func (s *Sums) EndShard() Digest {
	if s.slow != nil {
		defer s.slowShard.Reset()
		return sum(s.slowShard)
	}
	d := s.end(s.shard, s.size-s.start)
	s.shard, s.start = initial, s.size
	return d
}

// Whole returns the digest of all bytes.
func (s *Sums) Whole() Digest {
	if s.slow != nil {
		return sum(s.slow)
	}
	return s.end(s.whole, s.size)
}

// end is the digest of size bytes of which state has all but the rest, with the padding of
// FIPS 180-4, section 5.1.1.
func (s *Sums) end(state [8]uint32, size int64) (d Digest) {
	p := append(make([]byte, 0, 2*blockSize), s.rest...)
	p = append(p, 0x80)
	for len(p)%blockSize != blockSize-8 {
		p = append(p, 0)
	}
	p = binary.BigEndian.AppendUint64(p, 8*uint64(size))
	var unused [8]uint32
	blocks(&state, &unused, &p[0], len(p)/blockSize)
	for i, word := range state {
		binary.BigEndian.PutUint32(d[4*i:], word)
	}
	return d
}
