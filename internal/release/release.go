// Package release reads, writes and signs release.txt, the publisher's list of versions. It refuses
// to know which keys a reader trusts, and which of two releases a reader has to believe.
//
//	file      = text signature
//	text      = "shardcast release 1" LF
//	            "feed: " feed LF "epoch: " number LF "seq: " number LF
//	            "issued: " time LF "expires: " ( time / "never" ) LF
//	            *( version SP ( "withdrawn" / described ) LF )     ascending, each once
//	described = "sha256=" digest SP "size=" size SP "manifest=" digest
//	signature = "untrusted comment: signature from shardcast" LF base64 LF
//	            "trusted comment: shardcast release feed=" feed " epoch=" number " seq=" number LF base64 LF
//	number    = 1 to 999999999999999999, size from 0 on; without leading zeros
//	time      = as 2026-11-29T00:10:00Z
//	feed      = 1 to 255 letters, digits and "._-/" of ASCII, the first a letter or digit
//
// The signature is minisign's in its prehashed form (ED). There is exactly one way to write a
// release: what [Parse] accepts has been written so, to the byte. A file has at most [MaxSize]
// bytes and [MaxVersions] versions.
package release

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/shard"
)

// FileName is the file's name on disk and on the wire.
const FileName = "release.txt"

const (
	// MaxSize is the largest file in bytes that [Parse] takes.
	MaxSize = 4 << 20

	// MaxVersions is the most versions that a release lists.
	MaxVersions = 10_000

	// MaxNumber is the highest epoch, sequence number and size.
	MaxNumber = 999_999_999_999_999_999
)

const (
	title   = "shardcast release 1"
	never   = "never"
	seconds = "2006-01-02T15:04:05Z"

	// maxFeed is the longest name of a feed in bytes.
	maxFeed = 255
)

// ErrForm means that a text is not a release, or that a release cannot be written.
var ErrForm = errors.New(FileName + " has a wrong form")

// A Release is the list that a publisher signs. Values are shared, so nothing in them is changed.
type Release struct {
	// Feed names the publisher's list among others, see [CheckFeed].
	Feed string

	// Epoch and Seq order the releases of a feed, see [Release.Compare]. Both count from 1.
	Epoch, Seq uint64

	// Issued is the publisher's time of signing, in whole seconds, and Expires the time after
	// which the release says nothing about the present. A zero Expires is never.
	Issued, Expires time.Time

	// Entries are the versions, ascending.
	Entries []Entry
}

// Entry is one version of a release.
type Entry struct {
	Version shard.Version

	// Withdrawn is set for a version that the publisher has declared bad. The fields below are
	// zero then.
	Withdrawn bool

	// Digest is the stream's, Size its size in bytes, and Manifest the digest of manifest.json.
	Digest   shard.Digest
	Size     int64
	Manifest shard.Digest
}

// CheckFeed returns an error that matches [ErrForm] unless feed can name a feed: 1 to 255 letters,
// digits and ".", "_", "-" and "/" of ASCII, of which the first is a letter or digit.
func CheckFeed(feed string) error {
	letterOrDigit := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	}
	other := func(r rune) bool { return !letterOrDigit(r) && !strings.ContainsRune("._-/", r) }
	if feed == "" || len(feed) > maxFeed || strings.ContainsFunc(feed, other) || !letterOrDigit(rune(feed[0])) {
		return fmt.Errorf("%w: %.80q cannot name a feed: want 1 to %d letters, digits and ._-/ as in %q",
			ErrForm, feed, maxFeed, "weights.example.org/llama")
	}
	return nil
}

// Find returns the entry of a version.
func (r Release) Find(v shard.Version) (Entry, bool) {
	i, ok := slices.BinarySearchFunc(r.Entries, v, func(e Entry, v shard.Version) int {
		return cmp.Compare(e.Version, v)
	})
	if !ok {
		return Entry{}, false
	}
	return r.Entries[i], true
}

// Compare orders releases by epoch, and those of one epoch by sequence number: it is negative if
// r comes before other.
func (r Release) Compare(other Release) int {
	return cmp.Or(cmp.Compare(r.Epoch, other.Epoch), cmp.Compare(r.Seq, other.Seq))
}

// ExpiredAt reports whether the release says nothing about the present any more at a time.
func (r Release) ExpiredAt(now time.Time) bool {
	return !r.Expires.IsZero() && !now.Before(r.Expires)
}

// check returns an error matching ErrForm if the release cannot be written.
func (r Release) check() error {
	if err := CheckFeed(r.Feed); err != nil {
		return err
	}
	wrong := ""
	switch {
	case r.Epoch < 1 || r.Epoch > MaxNumber:
		wrong = fmt.Sprintf("the epoch is %d", r.Epoch)
	case r.Seq < 1 || r.Seq > MaxNumber:
		wrong = fmt.Sprintf("the sequence number is %d", r.Seq)
	case !isWritten(r.Issued):
		wrong = fmt.Sprintf("the time of issue is %v", r.Issued)
	case !r.Expires.IsZero() && !isWritten(r.Expires):
		wrong = fmt.Sprintf("the time of expiry is %v", r.Expires)
	case r.ExpiredAt(r.Issued):
		wrong = "it expires before it is issued"
	case len(r.Entries) > MaxVersions:
		wrong = fmt.Sprintf("it has more than %d versions", MaxVersions)
	}
	if wrong != "" {
		return fmt.Errorf("%w: %s", ErrForm, wrong)
	}
	last := shard.Version(0)
	for _, e := range r.Entries {
		if err := e.check(last); err != nil {
			return err
		}
		last = e.Version
	}
	return nil
}

// isWritten reports whether the text of a time in a release says all of it.
func isWritten(t time.Time) bool {
	parsed, err := time.Parse(seconds, t.UTC().Format(seconds))
	return err == nil && parsed.Equal(t) && t.UTC().Year() > 0
}

// check returns an error matching ErrForm if the entry cannot stand after the version last.
func (e Entry) check(last shard.Version) error {
	wrong := ""
	switch {
	case e.Version > shard.MaxVersion:
		wrong = fmt.Sprintf("%s is not a version", e.Version)
	case e.Version <= last:
		wrong = fmt.Sprintf("%s stands after %s", e.Version, last)
	case e.Size < 0 || e.Size > MaxNumber:
		wrong = fmt.Sprintf("%s has a size of %d bytes", e.Version, e.Size)
	case e.Withdrawn && e != Entry{Version: e.Version, Withdrawn: true}:
		wrong = fmt.Sprintf("%s is withdrawn and has digests", e.Version)
	}
	if wrong != "" {
		return fmt.Errorf("%w: %s", ErrForm, wrong)
	}
	return nil
}

// mostLine is at least the size in bytes of the line of a version.
const mostLine = 200

// text returns what is signed of a release that can be written.
func (r Release) text() []byte {
	expires := never
	if !r.Expires.IsZero() {
		expires = r.Expires.UTC().Format(seconds)
	}
	text := make([]byte, 0, 1024+mostLine*len(r.Entries))
	text = fmt.Appendf(text, "%s\nfeed: %s\nepoch: %d\nseq: %d\nissued: %s\nexpires: %s\n",
		title, r.Feed, r.Epoch, r.Seq, r.Issued.UTC().Format(seconds), expires)
	for _, e := range r.Entries {
		text = e.appendTo(text)
	}
	return text
}

// appendTo appends the line of a version.
func (e Entry) appendTo(text []byte) []byte {
	text = strconv.AppendUint(append(text, 'v'), uint64(e.Version), 10)
	if e.Withdrawn {
		return append(text, " withdrawn\n"...)
	}
	text = hex.AppendEncode(append(text, " sha256="...), e.Digest[:])
	text = strconv.AppendInt(append(text, " size="...), e.Size, 10)
	text = hex.AppendEncode(append(text, " manifest="...), e.Manifest[:])
	return append(text, '\n')
}

// trustedComment is the comment that is signed with the signature.
func (r Release) trustedComment() string {
	return fmt.Sprintf("shardcast release feed=%s epoch=%d seq=%d", r.Feed, r.Epoch, r.Seq)
}

// parseNumber reads a decimal number from least to MaxNumber without leading zeros.
func parseNumber(s string, least uint64) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n < least || n > MaxNumber || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("%.40q is not a number from %d to %d without leading zeros", s, least, MaxNumber)
	}
	return n, nil
}

// parseTime reads a time in the one form that it has in a release.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(seconds, s)
	if err != nil || t.Format(seconds) != s || t.Year() == 0 {
		return time.Time{}, fmt.Errorf("%.40q is not a time like %s", s, "2026-11-29T00:10:00Z")
	}
	return t, nil
}
