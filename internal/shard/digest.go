package shard

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"strings"

	"github.com/zeebo/blake3"
)

// Digest is the SHA-256 of a shard or of a whole file, or the BLAKE3 of a whole file
// where it says so.
type Digest [sha256.Size]byte

// EmptyDigest is the digest of no bytes, by which an empty file is known even where its size
// is not.
func EmptyDigest() Digest {
	return sha256.Sum256(nil)
}

// EmptyBLAKE3 is the BLAKE3 of no bytes.
func EmptyBLAKE3() Digest {
	return blake3.Sum256(nil)
}

// IsEmpty reports whether d is a digest of no bytes, the SHA-256 or the BLAKE3. An entry of
// distribution.txt does not say which.
func IsEmpty(d Digest) bool {
	return d == EmptyDigest() || d == EmptyBLAKE3()
}

// NewBLAKE3 returns a BLAKE3 hash of 32 bytes.
func NewBLAKE3() hash.Hash {
	return blake3.New()
}

// ParseDigest reads a digest in the form that [Digest.String] writes: 64
// lower-case hex digits.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != hex.EncodedLen(len(d)) || strings.Trim(s, "0123456789abcdef") != "" {
		return Digest{}, fmt.Errorf("%.80q is not a digest: want 64 lower-case hex digits", s)
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("digest %.80q: %w", s, err)
	}
	return d, nil
}

// String returns the digest as 64 lower-case hex digits.
func (d Digest) String() string {
	return hex.EncodeToString(d[:])
}

// MarshalText writes the form of [Digest.String].
func (d Digest) MarshalText() ([]byte, error) {
	return []byte(d.String()), nil
}

// UnmarshalJSON reads a string that [ParseDigest] reads, and no null, which must not become a
// digest.
func (d *Digest) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	parsed, err := ParseDigest(s)
	*d = parsed
	return err
}
