package shard

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// ErrIntegrity means that no source has the right bytes: those that came do not agree with
// the digests.
var ErrIntegrity = errors.New("integrity failure")

// ErrNoVersion means that there is no version of that number, or not any more.
var ErrNoVersion = errors.New("no such version")

// Errors of [Check.Close]. Each means that the bytes are not the shard's.
var (
	ErrSize   = errors.New("wrong size")
	ErrDigest = errors.New("wrong digest")
)

// Check takes a shard's bytes, and decides in the end whether they were right.
type Check struct {
	shard Shard
	hash  hash.Hash
	size  int64
}

// NewCheck returns a Check of s.
func NewCheck(s Shard) *Check {
	return &Check{shard: s, hash: sha256.New()}
}

// Write takes the next bytes. It returns an error matching [ErrSize] as soon as there are
// more than the shard has.
func (c *Check) Write(p []byte) (int, error) {
	if c.size += int64(len(p)); c.size > c.shard.Size {
		return 0, fmt.Errorf("shard %d: %w: more than %d bytes", c.shard.Number, ErrSize, c.shard.Size)
	}
	return c.hash.Write(p)
}

// Close returns nil if exactly the shard's bytes were written, and an error matching
// [ErrSize] or [ErrDigest] if not.
func (c *Check) Close() error {
	if c.size != c.shard.Size {
		return fmt.Errorf("shard %d: %w: %d bytes instead of %d", c.shard.Number, ErrSize, c.size, c.shard.Size)
	}
	if got := sum(c.hash); got != c.shard.Digest {
		return fmt.Errorf("shard %d: %w: %s instead of %s", c.shard.Number, ErrDigest, got, c.shard.Digest)
	}
	return nil
}

// Verify reads r to its end and checks that it has exactly the bytes of s. Errors match
// [ErrSize] or [ErrDigest], but for those of r. The buffer must not be empty.
func (s Shard) Verify(r io.Reader, buf []byte) error {
	c := NewCheck(s)
	if _, err := io.CopyBuffer(c, struct{ io.Reader }{r}, buf); err != nil {
		return err
	}
	return c.Close()
}
