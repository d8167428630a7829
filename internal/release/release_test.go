package release_test

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
)

var update = flag.Bool("update", false, "write the golden files")

func TestAReleaseIsWrittenAsInTheGoldenFile(t *testing.T) {
	signed := sign(t, example())
	if *update {
		require.NoError(t, os.WriteFile("testdata/release.txt", signed.Bytes(), 0o600))
	}
	golden := read(t, "release.txt")
	assert.Equal(t, string(golden), string(signed.Bytes()))
	parsed, err := release.Parse(golden)
	require.NoError(t, err)
	assert.Equal(t, signed, parsed)
	assert.Equal(t, example(), parsed.Release)
	assert.Equal(t, shard.Digest(sha256.Sum256(golden)), parsed.Digest())
	text, _, _ := bytes.Cut(golden, []byte("untrusted comment"))
	assert.Equal(t, shard.Digest(sha256.Sum256(text)), parsed.TextDigest())
	assert.Equal(t, "81453EC375B39404", parsed.KeyID())
	require.NoError(t, parsed.Verify(key(t, "minisign.key").Public()))
}

func TestVersionsAreFound(t *testing.T) {
	r := example()
	for _, want := range r.Entries {
		got, ok := r.Find(want.Version)
		assert.True(t, ok)
		assert.Equal(t, want, got)
	}
	for _, v := range []shard.Version{0, 40, 44} {
		_, ok := r.Find(v)
		assert.False(t, ok, v)
	}
}

func TestTheEpochComesBeforeTheSequenceNumber(t *testing.T) {
	at := func(epoch, seq uint64) release.Release { return release.Release{Epoch: epoch, Seq: seq} }
	assert.Negative(t, at(1, 9).Compare(at(2, 1)))
	assert.Positive(t, at(2, 1).Compare(at(1, 9)))
	assert.Negative(t, at(2, 1).Compare(at(2, 2)))
	assert.Zero(t, at(2, 2).Compare(at(2, 2)))
}

func TestAReleaseExpires(t *testing.T) {
	r := example()
	assert.False(t, r.ExpiredAt(r.Expires.Add(-time.Second)))
	assert.True(t, r.ExpiredAt(r.Expires))
	r.Expires = time.Time{}
	assert.False(t, r.ExpiredAt(r.Issued.AddDate(1000, 0, 0)))
}

// TestAnythingElseIsRefused changes one thing of the golden file at a time.
func TestAnythingElseIsRefused(t *testing.T) {
	golden := string(read(t, "release.txt"))
	entry := golden[strings.Index(golden, "v41 "):strings.Index(golden, "v42 ")]
	for name, tc := range map[string]struct{ old, replaced, says string }{
		"another title":             {"shardcast release 1", "shardcast release 2", "line 1"},
		"a CR":                      {"shardcast release 1\n", "shardcast release 1\r\n", "line 1"},
		"a CR behind a version":     {"v42 withdrawn\n", "v42 withdrawn\r\n", "line 8"},
		"a byte order mark":         {"shardcast release 1", "\ufeffshardcast release 1", "line 1"},
		"a line before":             {"shardcast release 1", "\nshardcast release 1", "line 1"},
		"no feed":                   {"feed: weights.example.org/llama-rl", "feed: ", "line 2"},
		"a feed with a space":       {"feed: weights", "feed: w eights", "line 2"},
		"a feed beyond ASCII":       {"feed: weights", "feed: wéights", "line 2"},
		"a feed that begins with .": {"feed: weights", "feed: .weights", "line 2"},
		"a feed that is too long":   {"feed: weights", "feed: " + strings.Repeat("w", 300), "line 2"},
		"no space before a value":   {"epoch: 3", "epoch:3", "line 3"},
		"two spaces":                {"epoch: 3", "epoch:  3", "line 3"},
		"a space behind":            {"epoch: 3", "epoch: 3 ", "line 3"},
		"epoch 0":                   {"epoch: 3", "epoch: 0", "line 3"},
		"a sign":                    {"epoch: 3", "epoch: +3", "line 3"},
		"an underscore":             {"epoch: 3", "epoch: 3_0", "line 3"},
		"a leading zero":            {"epoch: 3", "epoch: 03", "line 3"},
		"hex":                       {"epoch: 3", "epoch: 0x3", "line 3"},
		"a number too high":         {"epoch: 3", "epoch: 1000000000000000000", "line 3"},
		"a number beyond 64 bits":   {"epoch: 3", "epoch: 99999999999999999999", "line 3"},
		"another order":             {"epoch: 3\nseq: 1764375000123", "seq: 1764375000123\nepoch: 3", "line 3"},
		"a field twice":             {"epoch: 3\n", "epoch: 3\nepoch: 3\n", "line 4"},
		"a field missing":           {"seq: 1764375000123\n", "", "line 4"},
		"an unknown field":          {"expires:", "note: hello\nexpires:", "line 6"},
		"a zone":                    {"issued: 2026-11-29T00:10:00Z", "issued: 2026-11-29T00:10:00+00:00", "line 5"},
		"a fraction of a second":    {"issued: 2026-11-29T00:10:00Z", "issued: 2026-11-29T00:10:00.0Z", "line 5"},
		"a comma":                   {"issued: 2026-11-29T00:10:00Z", "issued: 2026-11-29T00:10:00,5Z", "line 5"},
		"a day that is none":        {"issued: 2026-11-29T00:10:00Z", "issued: 2026-11-31T00:10:00Z", "line 5"},
		"a short day":               {"issued: 2026-11-29T00:10:00Z", "issued: 2026-11-9T00:10:00Z", "line 5"},
		"never issued":              {"issued: 2026-11-29T00:10:00Z", "issued: never", "line 5"},
		"expired when issued":       {"expires: 2026-12-06T00:10:00Z", "expires: 2026-11-29T00:10:00Z", "line 6"},
		"Never":                     {"expires: 2026-12-06T00:10:00Z", "expires: Never", "line 6"},
		"descending":                {entry, "v44 withdrawn\n" + entry, "line 8"},
		"a version twice":           {entry, entry + entry, "line 8"},
		"version 0":                 {"v42 withdrawn", "v0 withdrawn", "line 8"},
		"a version with a zero":     {"v42 withdrawn", "v042 withdrawn", "line 8"},
		"a version too high":        {"v42 withdrawn", "v1000000000000000000 withdrawn", "line 8"},
		"no v":                      {"v42 withdrawn", "42 withdrawn", "line 8"},
		"Withdrawn":                 {"v42 withdrawn", "v42 Withdrawn", "line 8"},
		"withdrawn, with digests":   {"v41 sha256", "v41 withdrawn sha256", "line 7"},
		"more behind withdrawn":     {"v42 withdrawn", "v42 withdrawn ", "line 8"},
		"a version alone":           {"v42 withdrawn", "v42", "line 8"},
		"no size":                   {"size=0 ", "", "line 9"},
		"a negative size":           {"size=0", "size=-1", "line 9"},
		"a size with zeros":         {"size=0", "size=00", "line 9"},
		"no value of a size":        {"size=0", "size=", "line 9"},
		"another name of a field":   {"v41 sha256=", "v41 sha512=", "line 7"},
		"two spaces in a version":   {"size=0 manifest", "size=0  manifest", "line 9"},
		"more behind a version":     {"\nv42", " blake3=00\nv42", "line 7"},
		"an upper-case digest":      {"manifest=", "manifest=A", "line 7"},
		"a blank line":              {"v42", "\nv42", "line 8"},
		"a comment line":            {"v42", "# all good\nv42", "line 8"},
		"another untrusted comment": {"comment: signature from shardcast", "comment: signature", "line 10"},
		"more of it":                {"signature from shardcast", "signature from shardcast v99", "line 10"},
		"the old algorithm":         {"\nRUQ", "\nRWQ", `the algorithm of the signature is "Ed"`},
		"an unknown algorithm":      {"\nRUQ", "\nRUA", "line 11"},
		"a space behind base64":     {"\ntrusted", " \ntrusted", "line 11"},
		"CR within base64":          {"\nRUQ", "\nRU\rQ", "line 11"},
		"another trusted comment":   {"comment: shardcast release feed", "comment: release feed", "line 12"},
		"another feed in it":        {"release feed=weights", "release feed=heights", "line 12"},
		"another epoch in it":       {" epoch=3", " epoch=4", "line 12"},
		"another number in it":      {"seq=1764375000123", "seq=1764375000124", "line 12"},
		"more behind it":            {"seq=1764375000123", "seq=1764375000123 ", "line 12"},
		"a comment without colon":   {"\ntrusted comment: ", "\ntrusted comment ", "line 12"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(golden, tc.old, tc.replaced, 1)
			require.NotEqual(t, golden, text)
			_, err := release.Parse([]byte(text))
			require.ErrorIs(t, err, release.ErrForm)
			require.ErrorContains(t, err, tc.says)
			assert.Less(t, len(err.Error()), 500, "a log must not repeat a whole line of the network")
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestNothingFollowsTheSignature(t *testing.T) {
	golden := read(t, "release.txt")
	for _, more := range []string{"\n", " ", "v44 withdrawn\n", "untrusted comment: x\n", "\x00"} {
		_, err := release.Parse(append(bytes.Clone(golden), more...))
		require.ErrorIs(t, err, release.ErrForm)
		require.ErrorContains(t, err, "line 14", more)
	}
}

func TestNoBeginningOfAReleaseIsOne(t *testing.T) {
	golden := read(t, "release.txt")
	for i := range golden {
		_, err := release.Parse(golden[:i])
		require.ErrorIs(t, err, release.ErrForm)
	}
}

func TestBase64HasOneForm(t *testing.T) {
	golden := string(read(t, "release.txt"))
	lines := strings.SplitAfter(golden, "\n")
	for _, i := range []int{10, 12} {
		require.Contains(t, lines[i], "=\n", "the last digit has bits that are not used")
		at := strings.Index(lines[i], "=") - 1
		changed := lines[i][:at] + string(lines[i][at]+1) + lines[i][at+1:]
		text := strings.Replace(golden, lines[i], changed, 1)
		_, err := release.Parse([]byte(text))
		require.ErrorContains(t, err, "is not the base64")
	}
}

func TestTheListIsBounded(t *testing.T) {
	r := example()
	r.Entries = nil
	for v := range shard.Version(release.MaxVersions) {
		r.Entries = append(r.Entries, described(shard.MaxVersion-release.MaxVersions+1+v, release.MaxNumber))
	}
	signed := sign(t, r)
	assert.Less(t, len(signed.Bytes()), release.MaxSize/2)
	parsed, err := release.Parse(signed.Bytes())
	require.NoError(t, err)
	assert.Equal(t, r, parsed.Release)

	r.Entries = append([]release.Entry{{Version: 1, Withdrawn: true}}, r.Entries...)
	_, err = r.Sign(key(t, "minisign.key"))
	require.ErrorIs(t, err, release.ErrForm)
	text := bytes.Replace(signed.Bytes(), []byte("\nv"), []byte("\nv1 withdrawn\nv"), 1)
	_, err = release.Parse(text)
	require.ErrorContains(t, err, "more than 10000 versions")
	_, err = release.Parse(make([]byte, release.MaxSize+1))
	require.ErrorContains(t, err, "more than 4194304 bytes")
}

func TestAReleaseThatCannotBeWrittenIsNotSigned(t *testing.T) {
	for name, spoil := range map[string]func(*release.Release){
		"no feed":                  func(r *release.Release) { r.Feed = "" },
		"a line in the feed":       func(r *release.Release) { r.Feed = "a\nepoch: 9" },
		"no epoch":                 func(r *release.Release) { r.Epoch = 0 },
		"an epoch too high":        func(r *release.Release) { r.Epoch = release.MaxNumber + 1 },
		"no sequence number":       func(r *release.Release) { r.Seq = 0 },
		"a sequence number":        func(r *release.Release) { r.Seq = release.MaxNumber + 1 },
		"no time":                  func(r *release.Release) { r.Issued = time.Time{}.AddDate(-1, 0, 0) },
		"a fraction of a second":   func(r *release.Release) { r.Issued = r.Issued.Add(time.Millisecond) },
		"a year of five digits":    func(r *release.Release) { r.Expires = r.Issued.AddDate(10_000, 0, 0) },
		"expired when it begins":   func(r *release.Release) { r.Expires = r.Issued },
		"a fraction in the expiry": func(r *release.Release) { r.Expires = r.Expires.Add(1) },
		"version 0":                func(r *release.Release) { r.Entries[0].Version = 0 },
		"a version too high":       func(r *release.Release) { r.Entries[2].Version = shard.MaxVersion + 1 },
		"descending":               func(r *release.Release) { r.Entries[2].Version = 40 },
		"a version twice":          func(r *release.Release) { r.Entries[2].Version = 42 },
		"a negative size":          func(r *release.Release) { r.Entries[0].Size = -1 },
		"a size too high":          func(r *release.Release) { r.Entries[0].Size = release.MaxNumber + 1 },
		"withdrawn with a size":    func(r *release.Release) { r.Entries[1].Size = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			r := example()
			spoil(&r)
			_, err := r.Sign(key(t, "minisign.key"))
			require.ErrorIs(t, err, release.ErrForm)
		})
	}
}

// TestEveryReleaseIsReadAsItWasWritten signs any release that can be written.
func TestEveryReleaseIsReadAsItWasWritten(t *testing.T) {
	private := key(t, "minisign.key")
	rapid.Check(t, func(t *rapid.T) {
		r := anyRelease(t)
		signed, err := r.Sign(private)
		require.NoError(t, err)
		parsed, err := release.Parse(signed.Bytes())
		require.NoError(t, err)
		require.Equal(t, r, parsed.Release)
		require.NoError(t, parsed.Verify(private.Public()))
	})
}

// TestNoByteCanBeChanged changes a byte of any release: it is refused for its form or its signature.
func TestNoByteCanBeChanged(t *testing.T) {
	private := key(t, "minisign.key")
	rapid.Check(t, func(t *rapid.T) {
		signed, err := anyRelease(t).Sign(private)
		require.NoError(t, err)
		text := bytes.Clone(signed.Bytes())
		text[rapid.IntRange(0, len(text)-1).Draw(t, "at")] ^= rapid.ByteRange(1, 255).Draw(t, "bits")
		changed, err := release.Parse(text)
		if err == nil {
			require.ErrorIs(t, changed.Verify(private.Public()), release.ErrSignature)
		}
	})
}

func anyRelease(t *rapid.T) release.Release {
	number := rapid.Uint64Range(1, release.MaxNumber)
	r := release.Release{
		Feed:  rapid.StringMatching(`[a-zA-Z0-9][a-zA-Z0-9._/-]{0,30}`).Draw(t, "feed"),
		Epoch: number.Draw(t, "epoch"), Seq: number.Draw(t, "seq"),
		Issued: time.Unix(rapid.Int64Range(0, 250_000_000_000).Draw(t, "issued"), 0).UTC(),
	}
	if rapid.Bool().Draw(t, "expires") {
		r.Expires = r.Issued.Add(time.Duration(rapid.IntRange(1, 1_000_000_000).Draw(t, "life")) * time.Second)
	}
	for v := shard.Version(0); rapid.IntRange(0, 3).Draw(t, "more") > 0; {
		v += shard.Version(rapid.Uint64Range(1, 1_000_000_000).Draw(t, "step"))
		if rapid.Bool().Draw(t, "withdrawn") {
			r.Entries = append(r.Entries, release.Entry{Version: v, Withdrawn: true})
			continue
		}
		r.Entries = append(r.Entries, described(v, rapid.Int64Range(0, release.MaxNumber).Draw(t, "size")))
	}
	return r
}

// FuzzParse holds the promise of the package: a text is refused, or it is the only one for its
// release, apart from the signatures.
func FuzzParse(f *testing.F) {
	golden := read(f, "release.txt")
	f.Add(golden)
	for _, spoil := range []func(*release.Release){
		func(r *release.Release) { r.Entries = nil },
		func(r *release.Release) { r.Expires = time.Time{} },
		func(r *release.Release) { r.Feed, r.Epoch, r.Seq = "f", 1, 1 },
	} {
		r := example()
		spoil(&r)
		f.Add(sign(f, r).Bytes())
	}
	f.Add(golden[:len(golden)/2])
	private := key(f, "minisign.key")
	f.Fuzz(func(t *testing.T, text []byte) {
		parsed, err := release.Parse(text)
		if err != nil {
			require.ErrorIs(t, err, release.ErrForm)
			return
		}
		again, err := parsed.Release.Sign(private)
		require.NoError(t, err)
		require.Equal(t, parsed.TextDigest(), again.TextDigest())
		require.Len(t, again.Bytes(), len(text))
	})
}

func BenchmarkRelease(b *testing.B) {
	r := example()
	r.Entries = nil
	for v := range shard.Version(release.MaxVersions) {
		r.Entries = append(r.Entries, described(v+1, rand.Int64N(1<<40)))
	}
	private := key(b, "minisign.key")
	signed, err := r.Sign(private)
	require.NoError(b, err)
	for name, f := range map[string]func() error{
		"sign":   func() error { _, err := r.Sign(private); return err },
		"parse":  func() error { _, err := release.Parse(signed.Bytes()); return err },
		"verify": func() error { return signed.Verify(private.Public()) },
	} {
		b.Run(fmt.Sprintf("%s/versions=%d", name, len(r.Entries)), func(b *testing.B) {
			b.SetBytes(int64(len(signed.Bytes())))
			for b.Loop() {
				require.NoError(b, f())
			}
		})
	}
}
