package shard

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// DeltaFormat is the format of the deltas that package delta makes, and their first line.
const DeltaFormat = "shardcast delta 1"

const (
	// MaxDeltas bounds the deltas of a version.
	MaxDeltas = 64

	// maxDeltaFormat bounds the name of a format, in bytes.
	maxDeltaFormat = 64
)

// Delta says in a version's manifest that there is a delta, which makes the version from another
// one, its base. It is a hint: the digests of the version's shards decide.
type Delta struct {
	// Base is the number that the base had, which is in the name of the delta's directory.
	Base Version

	// BaseDigest is the digest of the base. A stream of that digest is the base under any number.
	BaseDigest Digest

	// Size is the delta's, in bytes.
	Size int64

	// Manifest is the digest of the text of the delta's manifest, see [DeltaManifest].
	Manifest Digest
}

// deltaText is a Delta as JSON has it.
type deltaText struct {
	Base       string `json:"base"`
	BaseDigest Digest `json:"base_digest"`
	Size       int64  `json:"size"`
	Manifest   Digest `json:"manifest"`
}

// MarshalJSON writes the object that is in a manifest.
func (d Delta) MarshalJSON() ([]byte, error) {
	return json.Marshal(deltaText{d.Base.String(), d.BaseDigest, d.Size, d.Manifest})
}

// UnmarshalJSON reads that object.
func (d *Delta) UnmarshalJSON(text []byte) error {
	var t deltaText
	if err := json.Unmarshal(text, &t); err != nil {
		return err
	}
	base, err := ParseVersion(t.Base)
	*d = Delta{base, t.BaseDigest, t.Size, t.Manifest}
	return err
}

// deltas are those of a version.
type deltas []Delta

// decode reads an array of deltas, or null. It stops when there are more than [MaxDeltas].
func (to *deltas) decode(d *json.Decoder) error {
	*to = nil
	return decodeArray(d, func() error {
		if len(*to) == MaxDeltas {
			return fmt.Errorf("more than %d", MaxDeltas)
		}
		var one Delta
		err := d.Decode(&one)
		*to = append(*to, one)
		return err
	})
}

// validate checks the deltas of a version of size bytes: each makes less of it, and no two are of one base.
func (to deltas) validate(size int64) error {
	if len(to) > MaxDeltas {
		return fmt.Errorf("%d deltas, at most %d are allowed", len(to), MaxDeltas)
	}
	bases := make(map[Version]bool)
	for _, d := range to {
		switch {
		case d.Base < 1 || d.Base > MaxVersion || bases[d.Base]:
			return fmt.Errorf("the base %s of a delta is none, or has two", d.Base)
		case d.Size < 1 || d.Size >= size:
			return fmt.Errorf("the delta from %s has %d bytes, and the version %d", d.Base, d.Size, size)
		case d.BaseDigest == Digest{} || d.Manifest == Digest{}:
			return fmt.Errorf("the delta from %s lacks a digest", d.Base)
		}
		bases[d.Base] = true
	}
	return nil
}

// DeltaManifest describes a delta, a stream of its own. Its text, at most 8 MiB, is JSON as that of a
// version:
//
//	{
//	  "format": "shardcast delta 1",
//	  "base_digest": "<digest of the base>",
//	  "target_digest": "<digest of the version>",
//	  "size": 812345,
//	  "shard_size": 253952,
//	  "digest": "<digest of the delta>",
//	  "shards": ["<digest of shard 1>", "<digest of shard 2>", ...]
//	}
type DeltaManifest struct {
	// Format says how the delta is written: [DeltaFormat], or a later one.
	Format string `json:"format"`

	// BaseDigest and TargetDigest are the digests of the streams that the delta is made of.
	BaseDigest   Digest `json:"base_digest"`
	TargetDigest Digest `json:"target_digest"`

	// The others are as those of a [Manifest], of the delta's own bytes.
	Size      int64    `json:"size"`
	ShardSize int64    `json:"shard_size"`
	Digest    Digest   `json:"digest"`
	Shards    []Digest `json:"shards"`
}

// Content returns the manifest of the delta's bytes, as if they were a version's. It has no name and
// no date.
func (m DeltaManifest) Content() Manifest {
	return Manifest{Size: m.Size, ShardSize: m.ShardSize, Digest: m.Digest, Shards: m.Shards}
}

// ParseDeltaManifest reads a delta's manifest of at most 8 MiB, and checks it as [ParseManifest] does
// a version's. It takes any format. Errors match [ErrManifest], but for those of r.
func ParseDeltaManifest(r io.Reader) (DeltaManifest, error) {
	var m DeltaManifest
	err := parseObject(r, map[string]any{
		"format": &m.Format, "base_digest": &m.BaseDigest, "target_digest": &m.TargetDigest, "size": &m.Size,
		"shard_size": &m.ShardSize, "digest": &m.Digest, "shards": (*digests)(&m.Shards),
	})
	if err = cmp.Or(err, m.Validate()); err != nil {
		return DeltaManifest{}, err
	}
	return m, nil
}

// Encode writes the manifest in the form that [ParseDeltaManifest] reads back as an equal one.
func (m DeltaManifest) Encode() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return append(text, '\n'), nil
}

// Validate checks that the sizes are in range and add up to the number of shards, that the delta is
// not empty, and that no digest and no format is missing. Errors match [ErrManifest].
func (m DeltaManifest) Validate() error {
	var err error
	switch {
	case m.Format == "" || len(m.Format) > maxDeltaFormat || !utf8.ValidString(m.Format) ||
		strings.ContainsFunc(m.Format, unicode.IsControl):
		err = fmt.Errorf("the format %.80q of a delta is no name of at most %d bytes", m.Format, maxDeltaFormat)
	case m.Size == 0:
		err = errors.New("a delta is not empty")
	case m.BaseDigest == Digest{} || m.TargetDigest == Digest{}:
		err = errors.New("a digest is missing")
	default:
		return m.Content().Validate()
	}
	return fmt.Errorf("%w: %w", ErrManifest, err)
}
