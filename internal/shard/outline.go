package shard

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// OutlineName is the name of unfinished.jsonl in a draft, and of what a server
// answers with.
const OutlineName = "unfinished.jsonl"

// MaxOutlineLine bounds a line of unfinished.jsonl, in bytes: there is room for the
// longest name, and for members that later writers may add.
const MaxOutlineLine = 8 << 10

// ErrOutline is what [ParseOutline] and [ParseKnown] return for a line that is none
// of theirs.
var ErrOutline = errors.New("bad line of an unfinished version")

// An Outline is what is known of a version when its cut begins: all but the digests.
// It is the first line of unfinished.jsonl.
type Outline struct {
	// Version is the number that the version will have, unless the cut fails.
	Version Version

	// ID is random, and tells a cut from a later one of the same number.
	ID Digest

	// Name, Date, Size and ShardSize are those of the [Manifest].
	Name      string
	Date      time.Time
	Size      int64
	ShardSize int64
}

// outlineLine is an Outline as it is written.
type outlineLine struct {
	Version   string    `json:"version"`
	ID        Digest    `json:"id"`
	Name      string    `json:"name"`
	Date      time.Time `json:"date"`
	Size      int64     `json:"size"`
	ShardSize int64     `json:"shard_size"`
}

// ParseOutline reads what [Outline.Encode] writes, with or without the newline, and
// checks it as a manifest is checked. Errors match [ErrOutline].
func ParseOutline(line []byte) (Outline, error) {
	var l outlineLine
	err := decode(line, map[string]any{
		"version": &l.Version, "id": &l.ID, "name": &l.Name, "date": &l.Date, "size": &l.Size, "shard_size": &l.ShardSize,
	})
	if err != nil {
		return Outline{}, fmt.Errorf("%w: %w", ErrOutline, err)
	}
	v, err := ParseVersion(l.Version)
	if err != nil {
		return Outline{}, fmt.Errorf("%w: %w", ErrOutline, err)
	}
	o := Outline{Version: v, ID: l.ID, Name: l.Name, Date: l.Date, Size: l.Size, ShardSize: l.ShardSize}
	return o, o.validate()
}

// Encode writes the outline as one line, with its newline.
func (o Outline) Encode() ([]byte, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return encodeLine(outlineLine{o.Version.String(), o.ID, o.Name, o.Date, o.Size, o.ShardSize})
}

// validate checks what is checked of a manifest, and that version and ID are there.
func (o Outline) validate() error {
	err := o.Manifest().validateOutline()
	if err == nil && (o.Version < 1 || o.Version > MaxVersion || o.ID == Digest{}) {
		err = errors.New("its version or id is missing")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOutline, err)
	}
	return nil
}

// Manifest returns what the outline says, with zero digests: as many as there will
// be shards, or none if that number is not allowed.
func (o Outline) Manifest() Manifest {
	m := Manifest{Name: o.Name, Date: o.Date, Size: o.Size, ShardSize: o.ShardSize}
	if CheckSize(o.Size, o.ShardSize) == nil {
		m.Shards = make([]Digest, countShards(o.Size, o.ShardSize))
	}
	return m
}

// Known is a digest that has become known while a version was cut. It is every line
// of unfinished.jsonl but the first.
type Known struct {
	// Shard is the number of the shard that is in place and has the digest. Zero is
	// for the whole file, which is on offer then; nothing follows.
	Shard int

	// Digest is that of the shard or of the file.
	Digest Digest
}

// ParseKnown reads what [Known.Encode] writes, with or without the newline, of a
// version of count shards. Errors match [ErrOutline].
func ParseKnown(line []byte, count int) (Known, error) {
	var k Known
	var number json.RawMessage // to tell a null from what is not there
	err := decode(line, map[string]any{"shard": &number, "digest": &k.Digest})
	if err == nil && number != nil {
		if err = json.Unmarshal(number, &k.Shard); err == nil && (k.Shard < 1 || k.Shard > count) {
			err = fmt.Errorf("shard %d of %d", k.Shard, count)
		}
	}
	if err != nil {
		return Known{}, fmt.Errorf("%w: %w", ErrOutline, err)
	}
	if k.Digest == (Digest{}) {
		return Known{}, fmt.Errorf("%w: a digest is missing", ErrOutline)
	}
	return k, nil
}

// Encode writes the digest as one line, with its newline.
func (k Known) Encode() ([]byte, error) {
	return encodeLine(struct {
		Shard  int    `json:"shard,omitempty"`
		Digest Digest `json:"digest"`
	}{k.Shard, k.Digest})
}

// encodeLine writes v as one line, with its newline.
func encodeLine(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOutline, err)
	}
	return append(text, '\n'), nil
}
