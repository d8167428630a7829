package shard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
	"unicode/utf8"
)

const (
	// maxManifestSize in bytes has room for MaxShards digests of 67 bytes each, and for
	// members that later writers may add.
	maxManifestSize = 8 << 20

	// maxNameSize in bytes is the bound of file systems on a file's name.
	maxNameSize = 255
)

// ErrManifest means that a manifest contradicts itself or the format.
var ErrManifest = errors.New("bad manifest")

// Manifest describes the content of a version.
type Manifest struct {
	// Name is the file's name where it was published, without a directory. It is for
	// people; no code uses it as a path.
	Name string `json:"name"`

	// Date is when the version was cut.
	Date time.Time `json:"date"`

	// Size is the file's, in bytes.
	Size int64 `json:"size"`

	// ShardSize is that of every shard but the last, in bytes.
	ShardSize int64 `json:"shard_size"`

	// Digest is the whole file's.
	Digest Digest `json:"digest"`

	// BLAKE3 is the whole file's BLAKE3, by which other programs know it, or zero if it is
	// unknown.
	BLAKE3 Digest `json:"blake3,omitzero"`

	// Shards holds the digest of shard i at index i-1.
	Shards []Digest `json:"shards"`
}

// Shard is one contiguous byte range of a version.
type Shard struct {
	// Number counts from 1.
	Number int

	// Offset is where the shard begins in the file, in bytes.
	Offset int64

	// Size is the shard's, in bytes; never 0.
	Size int64

	// Digest is that of the shard's bytes.
	Digest Digest
}

// ParseManifest reads a manifest of at most 8 MiB and checks that its numbers agree with one
// another. It keeps nothing of members that it does not know. Errors match [ErrManifest], but
// for those of r.
func ParseManifest(r io.Reader) (Manifest, error) {
	var m Manifest
	from := &source{r: r, left: maxManifestSize}
	err := decodeObject(json.NewDecoder(from), map[string]any{
		"name": &m.Name, "date": &m.Date, "size": &m.Size, "shard_size": &m.ShardSize, "digest": &m.Digest,
		"blake3": &m.BLAKE3, "shards": (*digests)(&m.Shards),
	})
	switch {
	case from.err != nil:
		return Manifest{}, fmt.Errorf("read manifest: %w", from.err)
	case from.left < 0:
		return Manifest{}, fmt.Errorf("%w: longer than %d bytes", ErrManifest, maxManifestSize)
	case errors.Is(err, io.EOF):
		return Manifest{}, fmt.Errorf("%w: it ends in the middle", ErrManifest)
	case err != nil:
		return Manifest{}, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if err := m.Validate(); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// Encode writes the manifest in the form that [ParseManifest] reads back as an equal one.
func (m Manifest) Encode() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	if m.Shards == nil {
		m.Shards = []Digest{} // an array, also for an empty file
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return append(text, '\n'), nil
}

// Validate checks that the sizes are in range and add up to the number of shards, that no
// digest is missing, that the name is UTF-8, and that the date is within the years 1 to 9999,
// in UTC, too. Errors match [ErrManifest].
func (m Manifest) Validate() error {
	var err error
	switch count := countShards(m.Size, m.ShardSize); {
	case m.Size < 0:
		err = fmt.Errorf("size %d is negative", m.Size)
	case m.ShardSize < 1:
		err = fmt.Errorf("shard size %d is less than 1", m.ShardSize)
	case count > MaxShards:
		err = fmt.Errorf("%d shards of %d bytes, at most %d are allowed", count, m.ShardSize, MaxShards)
	case int64(len(m.Shards)) != count:
		err = fmt.Errorf("%d digests for %d bytes in shards of %d, which are %d shards",
			len(m.Shards), m.Size, m.ShardSize, count)
	case len(m.Name) > maxNameSize || !utf8.ValidString(m.Name):
		err = fmt.Errorf("the file's name is longer than %d bytes, or not UTF-8", maxNameSize)
	case !isWritable(m.Date) || !isWritable(m.Date.UTC()):
		err = errors.New("the date is outside of the years 1 to 9999")
	case m.Digest == Digest{} || slices.Contains(m.Shards, Digest{}):
		err = errors.New("a digest is missing")
	case m.Size == 0 && (m.Digest != EmptyDigest() || m.BLAKE3 != Digest{} && m.BLAKE3 != EmptyBLAKE3()),
		len(m.Shards) == 1 && m.Shards[0] != m.Digest:
		err = fmt.Errorf("the file's digest %s is not that of its shards", m.Digest)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return nil
}

// isWritable reports whether a date can be written as RFC 3339 has it.
func isWritable(date time.Time) bool {
	_, err := date.MarshalText()
	return err == nil && date.Year() >= 1
}

// Shard returns shard number, which must be from 1 to len(m.Shards).
func (m Manifest) Shard(number int) Shard {
	offset := int64(number-1) * m.ShardSize
	return Shard{
		Number: number,
		Offset: offset,
		Size:   min(m.ShardSize, m.Size-offset),
		Digest: m.Shards[number-1],
	}
}

// CheckSize returns nil if a file of size bytes can be cut into shards of shardSize, and
// otherwise an error that names a sufficient shard size.
func CheckSize(size, shardSize int64) error {
	if size < 0 || shardSize < 1 {
		return fmt.Errorf("%d bytes cannot be cut into shards of %d: sizes are 0 or more, and shard sizes 1 or more",
			size, shardSize)
	}
	if countShards(size, shardSize) > MaxShards {
		return fmt.Errorf("%d bytes in shards of %d are more than %d shards: use a shard size of %d or more",
			size, shardSize, MaxShards, countShards(size, MaxShards))
	}
	return nil
}

// Bounds of [AutoSize], in bytes.
const (
	MinAutoSize = 8_000_000
	MaxAutoSize = 64_000_000
)

// AutoSize returns the shard size that makes about 1,000 shards of a file of size bytes,
// within bounds: nodes that swap shards are fastest with some hundreds.
func AutoSize(size int64) int64 {
	auto := min(max(countShards(size, 1000), MinAutoSize), MaxAutoSize)
	return max(auto, countShards(size, MaxShards)) // for a file of which that would make too many
}

// countShards is size/shardSize, rounded up without overflowing, and 0 for sizes that cannot
// be cut.
func countShards(size, shardSize int64) int64 {
	if size < 1 || shardSize < 1 {
		return 0
	}
	return (size-1)/shardSize + 1
}
