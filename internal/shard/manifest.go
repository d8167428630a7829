package shard

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
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
	// unknown. It stands in a file of its own, see [BLAKE3Text], which may come later.
	BLAKE3 Digest `json:"-"`

	// Shards holds the digest of shard i at index i-1.
	Shards []Digest `json:"shards"`

	// Labels are names and values that the publisher gives the version. Nil means none.
	Labels map[string]string `json:"labels,omitempty"`

	// Files describes the list of files of a version that is a tree, also of one without
	// files. Nil means that the version is a file.
	Files *Files `json:"files,omitempty"`

	// Deltas are those by which the version can be made from others. Nil means none.
	Deltas []Delta `json:"deltas,omitempty"`
}

// FilesName is the name of the file with the list of a tree's files, see package tree.
const FilesName = "files.jsonl"

const (
	// MaxFiles bounds the files and empty directories of a tree.
	MaxFiles = 100_000

	// MaxFilesSize bounds the list of them, in bytes.
	MaxFilesSize = 64 << 20
)

// Files says what the list of a tree's files has to be.
type Files struct {
	// Count is the number of files and empty directories, which is the list's of lines.
	Count int `json:"count"`

	// Size is the list's, in bytes.
	Size int64 `json:"size"`

	// Digest is the list's.
	Digest Digest `json:"digest"`
}

// validate checks that the numbers are in range, and that the digest is there.
func (f *Files) validate() error {
	if f == nil {
		return nil
	}
	if f.Count < 0 || f.Count > MaxFiles || f.Size < 0 || f.Size > MaxFilesSize || f.Digest == (Digest{}) {
		return fmt.Errorf("%d files in a list of %d bytes; at most %d in %d are allowed, and the list has a digest",
			f.Count, f.Size, MaxFiles, MaxFilesSize)
	}
	return nil
}

const (
	// maxLabels bounds the labels of a version.
	maxLabels = 64

	// maxLabelName and maxLabelValue bound a label, in bytes.
	maxLabelName, maxLabelValue = 64, 255
)

// CheckLabel returns nil if a version may have a label of that name and value. A name has
// letters and digits of ASCII, and ".", "_" and "-", and a letter first; a value is UTF-8
// without control characters.
func CheckLabel(name, value string) error {
	switch {
	case !labelName.MatchString(name) || len(name) > maxLabelName:
		return fmt.Errorf("the label's name %.80q is not a letter and up to %d letters, digits, dots, dashes or "+
			"underscores", name, maxLabelName-1)
	case len(value) > maxLabelValue || !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		return fmt.Errorf("the value of the label %s is longer than %d bytes, or not text", name, maxLabelValue)
	}
	return nil
}

var labelName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]*$`)

// CheckLabels is [CheckLabel] of each, and returns an error for more than 64.
func CheckLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return fmt.Errorf("%d labels, at most %d are allowed", len(labels), maxLabels)
	}
	for name, value := range labels {
		if err := CheckLabel(name, value); err != nil {
			return err
		}
	}
	return nil
}

// Same reports whether the texts of two manifests state the same of the version.
func (m Manifest) Same(other Manifest) bool {
	return m.Name == other.Name && m.Date.Equal(other.Date) && m.Size == other.Size &&
		m.ShardSize == other.ShardSize && m.Digest == other.Digest &&
		slices.Equal(m.Shards, other.Shards) && maps.Equal(m.Labels, other.Labels) &&
		(m.Files == nil) == (other.Files == nil) && (m.Files == nil || *m.Files == *other.Files) &&
		slices.Equal(m.Deltas, other.Deltas)
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
	err := parseObject(r, map[string]any{
		"name": &m.Name, "date": &m.Date, "size": &m.Size, "shard_size": &m.ShardSize, "digest": &m.Digest,
		"shards": (*digests)(&m.Shards), "labels": (*labels)(&m.Labels), "files": &m.Files,
		"deltas": (*deltas)(&m.Deltas),
	})
	if err != nil {
		return Manifest{}, err
	}
	if err := m.Validate(); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// parseObject reads a manifest of at most 8 MiB into places, see [decodeObject].
func parseObject(r io.Reader, places map[string]any) error {
	from := &source{r: r, left: maxManifestSize}
	err := decodeObject(json.NewDecoder(from), places)
	switch {
	case from.err != nil:
		return fmt.Errorf("read manifest: %w", from.err)
	case from.left < 0:
		return fmt.Errorf("%w: longer than %d bytes", ErrManifest, maxManifestSize)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: it ends in the middle", ErrManifest)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return nil
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
	if err = cmp.Or(err, CheckLabels(m.Labels), m.Files.validate(), deltas(m.Deltas).validate(m.Size)); err != nil {
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
	MinAutoSize = 500_000
	MaxAutoSize = 64_000_000
)

// AutoSize returns the shard size that makes about 1,000 shards of a file of size bytes,
// within bounds: nodes that swap shards are fastest with hundreds of them, of half a megabyte or more.
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
