package fetch

import (
	"crypto/sha256"
	"hash"

	"github.com/shardcast/shardcast/internal/shard"
)

// sums are the digests of a file, computed beside one another.
type sums struct {
	sha256 hash.Hash
	blake3 hash.Hash // or nil
	given  chan []byte
	taken  chan struct{}
}

// newSums returns sums of nothing yet, with the BLAKE3 or without. They are closed in
// the end.
func newSums(both bool) *sums {
	s := &sums{sha256: sha256.New()}
	if both {
		s.blake3 = shard.NewBLAKE3()
		s.given, s.taken = make(chan []byte), make(chan struct{})
		go func() {
			for p := range s.given {
				_, _ = s.blake3.Write(p)
				s.taken <- struct{}{}
			}
			close(s.taken)
		}()
	}
	return s
}

// Write takes the next bytes.
func (s *sums) Write(p []byte) (int, error) {
	if s.blake3 != nil {
		s.given <- p
		defer func() { <-s.taken }()
	}
	return s.sha256.Write(p)
}

// close ends what newSums has begun.
func (s *sums) close() {
	if s.blake3 != nil {
		close(s.given)
		<-s.taken
	}
}

// digests returns both digests, the second one zero if it was not computed.
func (s *sums) digests() (sha, blake shard.Digest) {
	s.sha256.Sum(sha[:0])
	if s.blake3 != nil {
		s.blake3.Sum(blake[:0])
	}
	return sha, blake
}
