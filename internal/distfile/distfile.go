// Package distfile reads and writes distribution.txt, the text file that lists the versions
// on offer with the digest of each one's file. It refuses to know where the text comes from.
//
//	line    = version ":" SP digest [ "|" count ] LF
//	version = "v" number                  see package shard
//	digest  = 64 lower-case hex digits    SHA-256, FIPS 180-4
//	count   = the number of shards        from some writers
//
// In some writers' texts the digest is a BLAKE3, without a sign of that in the line.
//
// A text has at most [MaxSize] bytes and [MaxEntries] entries. [Parse] also takes lines that end in CR LF and any
// spaces around the parts. [Encode] writes up to [MaxEntries] entries in the form above, with
// a count where an entry has one, ascending by version; [Parse] returns the same entries.
package distfile

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/shardcast/shardcast/internal/shard"
)

// FileName is the file's name on disk and on the wire.
const FileName = "distribution.txt"

const (
	// MaxSize is the longest text in bytes that [Parse] takes.
	MaxSize = 1 << 20

	// MaxEntries is the most entries that a text has. [Encode] always writes as many within
	// MaxSize.
	MaxEntries = 10_000
)

// maxSkipped bounds the memory for a text of bad lines alone.
const maxSkipped = 20

// ErrTooLong means that a text has more than [MaxSize] bytes or [MaxEntries] entries.
var ErrTooLong = fmt.Errorf("%s is longer than %d bytes or %d versions", FileName, MaxSize, MaxEntries)

// Entry is one version that a server offers.
type Entry struct {
	Version shard.Version

	// Digest is the whole file's.
	Digest shard.Digest

	// Count is the number of shards where the writer states it, else 0.
	Count int
}

// Same reports whether e and other are the same version of the same file.
func (e Entry) Same(other Entry) bool {
	return e.Version == other.Version && e.Digest == other.Digest
}

// A LineError is the reason why [Parse] has skipped a line.
type LineError struct {
	// Line counts from 1.
	Line int

	// Err is the line's fault.
	Err error
}

// Error names the line and its fault.
func (e LineError) Error() string {
	return fmt.Sprintf("%s, line %d: %v", FileName, e.Line, e.Err)
}

// Unwrap returns Err.
func (e LineError) Unwrap() error { return e.Err }

// Parse reads a distribution: its entries, ascending by version, and the lines that it has
// skipped, 20 of them at most. Of two lines with the same version the first counts. Errors
// match [ErrTooLong], or are those of r.
func Parse(r io.Reader) (entries []Entry, skipped []LineError, err error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, nil, err
	}
	if len(text) > MaxSize {
		return nil, nil, ErrTooLong
	}
	seen := make(map[shard.Version]int)
	number := 0
	for line := range bytes.Lines(text) {
		number++
		trimmed := strings.TrimSpace(string(line))
		if trimmed == "" {
			continue
		}
		entry, err := parseLine(trimmed)
		if first, ok := seen[entry.Version]; ok && err == nil {
			err = fmt.Errorf("%s stands in line %d already", entry.Version, first)
		}
		if err != nil {
			if len(skipped) < maxSkipped {
				skipped = append(skipped, LineError{Line: number, Err: err})
			}
			continue
		}
		if len(entries) == MaxEntries {
			return nil, nil, ErrTooLong
		}
		seen[entry.Version] = number
		entries = append(entries, entry)
	}
	sortEntries(entries)
	return entries, skipped, nil
}

// Encode writes entries, at most [MaxEntries], in the canonical form.
func Encode(entries []Entry) []byte {
	sorted := slices.Clone(entries)
	sortEntries(sorted)
	var text bytes.Buffer
	for _, e := range sorted {
		fmt.Fprintf(&text, "%s: %s", e.Version, e.Digest)
		if e.Count != 0 {
			fmt.Fprintf(&text, "|%d", e.Count)
		}
		text.WriteByte('\n')
	}
	return text.Bytes()
}

func sortEntries(entries []Entry) {
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Version, b.Version) })
}

func parseLine(line string) (Entry, error) {
	name, rest, ok := strings.Cut(line, ":")
	if !ok {
		return Entry{}, fmt.Errorf("no colon in %.80q", line)
	}
	version, err := shard.ParseVersion(strings.TrimSpace(name))
	if err != nil {
		return Entry{}, err
	}
	hex, countText, counted := strings.Cut(rest, "|")
	digest, err := shard.ParseDigest(strings.TrimSpace(hex))
	if err != nil {
		return Entry{}, err
	}
	count := 0
	if counted {
		count, err = parseCount(strings.TrimSpace(countText))
	}
	return Entry{Version: version, Digest: digest, Count: count}, err
}

func parseCount(s string) (int, error) {
	count, err := strconv.ParseUint(s, 10, 32)
	if err != nil || count > shard.MaxShards {
		return 0, fmt.Errorf("%.40q is not a number of shards", s)
	}
	return int(count), nil
}
