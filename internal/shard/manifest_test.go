package shard_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/shard"
)

const maxManifest = 8 << 20 // bytes, as ParseManifest promises

// alike returns count digests that are all the same one.
func alike(count int) []shard.Digest {
	return slices.Repeat([]shard.Digest{{1}}, count)
}

// valid returns a manifest of count shards of ten bytes, the last one of nine.
func valid(count int) shard.Manifest {
	digest := shard.Digest{1}
	if count == 0 {
		digest = shard.EmptyDigest()
	}
	return shard.Manifest{
		Name:      "weights.safetensors",
		Date:      time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC),
		Size:      max(0, int64(count)*10-1),
		ShardSize: 10,
		Digest:    digest,
		Shards:    alike(count),
	}
}

// text returns the manifest of two shards as JSON, with members replaced: a
// value of "" takes a member away.
func text(replace map[string]string) string {
	members := map[string]string{
		"name": `"weights"`, "date": `"2026-01-31T12:00:00Z"`, "size": "15", "shard_size": "10",
		"digest": `"` + abc + `"`, "shards": `["` + abc + `", "` + abc + `"]`,
	}
	for name, value := range replace {
		members[name] = value
	}
	var list []string
	for name, value := range members {
		if value != "" {
			list = append(list, strconv.Quote(name)+": "+value)
		}
	}
	slices.Sort(list)
	slices.Reverse(list) // so that what is named in capitals comes last
	return "{" + strings.Join(list, ", ") + "}"
}

// digests returns the JSON of so many digests.
func digests(count int) string {
	return "[" + strings.TrimSuffix(strings.Repeat(`"`+abc+`",`, count), ",") + "]"
}

// requireEqual fails t unless a and b say the same; their dates may do so in
// different time zones.
func requireEqual(t require.TestingT, a, b shard.Manifest) {
	require.True(t, a.Date.Equal(b.Date), "%v and %v", a.Date, b.Date)
	require.True(t, slices.Equal(a.Shards, b.Shards))
	a.Date, b.Date = time.Time{}, time.Time{}
	a.Shards, b.Shards = nil, nil
	require.Equal(t, a, b)
}

func anyDigest() *rapid.Generator[shard.Digest] {
	return rapid.Custom(func(t *rapid.T) shard.Digest {
		d := shard.Digest(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest"))
		d[0] |= 1 // all zeros are none
		return d
	})
}

func anyManifest() *rapid.Generator[shard.Manifest] {
	earliest := time.Date(2, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	latest := time.Date(9998, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	return rapid.Custom(func(t *rapid.T) shard.Manifest {
		count := rapid.IntRange(0, 20).Draw(t, "count")
		shardSize := rapid.Int64Range(1, math.MaxInt64/int64(max(count, 1))).Draw(t, "shard size")
		size := int64(0)
		if count > 0 {
			size = int64(count-1)*shardSize + rapid.Int64Range(1, shardSize).Draw(t, "size of the last")
		}
		digest, shards := anyDigest().Draw(t, "digest"), rapid.SliceOfN(anyDigest(), count, count).Draw(t, "shards")
		switch count {
		case 0:
			digest = shard.EmptyDigest()
		case 1:
			digest = shards[0]
		}
		zone := time.FixedZone("", 60*rapid.IntRange(-23*60, 23*60).Draw(t, "minutes"))
		return shard.Manifest{
			Name: rapid.StringN(0, -1, 255).Draw(t, "name"),
			Date: time.Unix(rapid.Int64Range(earliest, latest).Draw(t, "date"),
				rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).In(zone),
			Size:      size,
			ShardSize: shardSize,
			Digest:    digest,
			Shards:    shards,
		}
	})
}

func TestManifestParsesBackToAnEqualOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyManifest().Draw(t, "manifest")
		encoded, err := m.Encode()
		require.NoError(t, err)
		again, err := shard.ParseManifest(bytes.NewReader(encoded))
		require.NoError(t, err)
		requireEqual(t, m, again)
		requireCovered(t, again)
	})
}

// requireCovered fails t unless the shards follow one another from the first
// byte of the file to its last.
func requireCovered(t require.TestingT, m shard.Manifest) {
	next := int64(0)
	for i := range m.Shards {
		want := shard.Shard{Number: i + 1, Offset: next, Size: m.ShardSize, Digest: m.Shards[i]}
		if i+1 == len(m.Shards) {
			want.Size = m.Size - next
		}
		// Asked first, since an assertion for each of 65,536 shards takes a second.
		if got := m.Shard(i + 1); got != want || got.Size < 1 || got.Size > m.ShardSize {
			require.Equal(t, want, got)
			require.Fail(t, "a shard is empty or too large")
		}
		next += want.Size
	}
	require.Equal(t, m.Size, next)
}

func TestEncodeWritesTheDocumentedForm(t *testing.T) {
	m := shard.Manifest{
		Name: "weights.safetensors", Date: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC),
		Size: 120_000_000, ShardSize: 50_000_000, Digest: shard.EmptyDigest(), Shards: alike(3),
	}
	encoded, err := m.Encode()
	require.NoError(t, err)
	one := shard.Digest{1}.String()
	assert.Equal(t, `{
  "name": "weights.safetensors",
  "date": "2026-01-31T12:00:00Z",
  "size": 120000000,
  "shard_size": 50000000,
  "digest": "`+shard.EmptyDigest().String()+`",
  "shards": [
    "`+one+`",
    "`+one+`",
    "`+one+`"
  ]
}
`, string(encoded))
}

func TestTheTextOfAManifestHasNoBLAKE3(t *testing.T) {
	m, err := shard.Cut(t.Context(), strings.NewReader(""), shard.Plan{ShardSize: 10, BLAKE3: true})
	require.NoError(t, err)
	m.Name = "empty"
	require.Equal(t, shard.EmptyBLAKE3(), m.BLAKE3)
	encoded, err := m.Encode()
	require.NoError(t, err)
	assert.NotContains(t, string(encoded), m.BLAKE3.String())
	again, err := shard.ParseManifest(bytes.NewReader(encoded))
	require.NoError(t, err)
	assert.True(t, again.Same(m), "it may come later")
	m.BLAKE3 = shard.Digest{1}
	require.ErrorIs(t, m.Validate(), shard.ErrManifest, "no bytes have that one")
}

func TestTheTextOfABLAKE3HasItsDigitsAndNothingElse(t *testing.T) {
	digest := shard.EmptyBLAKE3()
	text := string(shard.BLAKE3Text(digest))
	assert.Equal(t, digest.String()+"\n", text)
	got, err := shard.ParseBLAKE3(strings.NewReader(text))
	require.NoError(t, err)
	assert.Equal(t, digest, got)
	for _, bad := range []string{
		"", "\n", digest.String(), text + "\n", text + text, " " + text, strings.ToUpper(text), text[1:],
		digest.String() + "\r\n", strings.Repeat("0", 1<<20),
	} {
		_, err := shard.ParseBLAKE3(strings.NewReader(bad))
		require.ErrorIs(t, err, shard.ErrDigest, "%.80q", bad)
	}
}

func TestEncodeWritesAnArrayOfShardsForAnEmptyFile(t *testing.T) {
	m, err := shard.Cut(t.Context(), strings.NewReader(""), shard.Plan{ShardSize: 10})
	require.NoError(t, err)
	m.Name = "empty"
	encoded, err := m.Encode()
	require.NoError(t, err)
	var members map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(encoded, &members))
	assert.Equal(t, "[]", string(members["shards"]), "null is no array for readers in another language")
}

func TestEncodeOfANameThatIsNotUTF8ParsesBack(t *testing.T) {
	for name, tc := range map[string]string{
		"one byte":                     "weights\xff.bin",
		"more than fit when replaced":  strings.Repeat("\xff", 100),
		"latin 1":                      "M\xfcnchen",
		"as long as file systems take": strings.Repeat("\xff", 255),
	} {
		t.Run(name, func(t *testing.T) {
			m := valid(2)
			m.Name = tc
			encoded, err := m.Encode()
			if err != nil {
				require.ErrorIs(t, err, shard.ErrManifest)
				return
			}
			again, err := shard.ParseManifest(bytes.NewReader(encoded))
			require.NoError(t, err, "a published manifest cannot be read")
			requireEqual(t, m, again)
		})
	}
}

func TestManifestTakesAsManyShardsAsAreAllowed(t *testing.T) {
	m := valid(shard.MaxShards)
	m.Name = strings.Repeat("\x00", 255) // takes most room in JSON
	encoded, err := m.Encode()
	require.NoError(t, err)
	assert.Less(t, len(encoded), maxManifest)
	again, err := shard.ParseManifest(bytes.NewReader(encoded))
	require.NoError(t, err)
	requireEqual(t, m, again)
}

func TestManifestTakesTheLargestFile(t *testing.T) {
	for name, tc := range map[string]struct {
		shardSize int64
		count     int
	}{
		"in one shard":            {math.MaxInt64, 1},
		"in two":                  {math.MaxInt64 - 1, 2},
		"in two of almost half":   {math.MaxInt64/2 + 1, 2},
		"in three":                {math.MaxInt64 / 2, 3},
		"in all that are allowed": {1 << 47, shard.MaxShards},
	} {
		t.Run(name, func(t *testing.T) {
			m := shard.Manifest{
				Size: math.MaxInt64, ShardSize: tc.shardSize, Digest: shard.Digest{1}, Shards: alike(tc.count),
			}
			require.NoError(t, m.Validate())
			requireCovered(t, m)
		})
	}
}

func TestAShardHasItsOffsetAndSize(t *testing.T) {
	m := shard.Manifest{Size: 25, ShardSize: 10, Digest: shard.Digest{4}, Shards: []shard.Digest{{1}, {2}, {3}}}
	require.NoError(t, m.Validate())
	assert.Equal(t, shard.Shard{Number: 1, Offset: 0, Size: 10, Digest: shard.Digest{1}}, m.Shard(1))
	assert.Equal(t, shard.Shard{Number: 2, Offset: 10, Size: 10, Digest: shard.Digest{2}}, m.Shard(2))
	assert.Equal(t, shard.Shard{Number: 3, Offset: 20, Size: 5, Digest: shard.Digest{3}}, m.Shard(3))
}

func TestValidateRefusesAManifestThatContradictsItself(t *testing.T) {
	for name, change := range map[string]func(m *shard.Manifest){
		"negative size":            func(m *shard.Manifest) { m.Size = -1 },
		"negative size, no shards": func(m *shard.Manifest) { m.Size, m.Shards = -1, nil },
		"smallest size":            func(m *shard.Manifest) { m.Size, m.Shards = math.MinInt64, nil },
		"shard size 0":             func(m *shard.Manifest) { m.ShardSize = 0 },
		"shard size 0, empty file": func(m *shard.Manifest) { m.Size, m.ShardSize, m.Shards = 0, 0, nil },
		"negative shard size":      func(m *shard.Manifest) { m.ShardSize = -10 },
		"smallest shard size":      func(m *shard.Manifest) { m.ShardSize = math.MinInt64 },
		"a shard too few":          func(m *shard.Manifest) { m.Size = 21 },
		"a shard too many":         func(m *shard.Manifest) { m.Size = 10 },
		"shards of an empty file":  func(m *shard.Manifest) { m.Size = 0 },
		"no shards of some bytes":  func(m *shard.Manifest) { m.Shards = nil },
		"one shard would do":       func(m *shard.Manifest) { m.ShardSize = 20 },
		"overflow of the count": func(m *shard.Manifest) {
			m.Size, m.ShardSize, m.Shards = math.MaxInt64, 1, nil
		},
		"overflow when rounding up": func(m *shard.Manifest) {
			m.Size, m.ShardSize, m.Shards = math.MaxInt64, math.MaxInt64, nil
		},
		"overflow, one too many":      func(m *shard.Manifest) { m.Size, m.ShardSize = math.MaxInt64, math.MaxInt64 },
		"more shards than allowed":    func(m *shard.Manifest) { *m = valid(shard.MaxShards + 1) },
		"a count that wraps an int32": func(m *shard.Manifest) { m.Size, m.ShardSize, m.Shards = 1<<32, 1, nil },
		"a name too long":             func(m *shard.Manifest) { m.Name = strings.Repeat("x", 256) },
		"a name that is not UTF-8":    func(m *shard.Manifest) { m.Name = "\xff" },
		"no digest":                   func(m *shard.Manifest) { m.Digest = shard.Digest{} },
		"a shard without a digest":    func(m *shard.Manifest) { m.Shards[1] = shard.Digest{} },
		"an empty file of something":  func(m *shard.Manifest) { m.Size, m.Shards = 0, nil },
		"a date past 9999": func(m *shard.Manifest) {
			m.Date = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
		},
		"a date past 9999 in UTC": func(m *shard.Manifest) {
			m.Date = time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -3600))
		},
		"a date before 1 in UTC": func(m *shard.Manifest) {
			m.Date = time.Date(1, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600))
		},
		"its one shard is another": func(m *shard.Manifest) { m.Size, m.Shards = 10, []shard.Digest{{2}} },
	} {
		t.Run(name, func(t *testing.T) {
			m := valid(2)
			require.NoError(t, m.Validate())
			change(&m)
			require.ErrorIs(t, m.Validate(), shard.ErrManifest)
			encoded, err := m.Encode()
			require.ErrorIs(t, err, shard.ErrManifest)
			assert.Empty(t, encoded)
		})
	}
}

func TestEncodeRefusesADateThatRFC3339CannotSay(t *testing.T) {
	m := valid(1)
	m.Date = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
	_, err := m.Encode()
	require.ErrorIs(t, err, shard.ErrManifest)
}

func TestParseManifestReadsTheDocumentedForm(t *testing.T) {
	m, err := shard.ParseManifest(strings.NewReader(text(nil)))
	require.NoError(t, err)
	digest, err := shard.ParseDigest(abc)
	require.NoError(t, err)
	requireEqual(t, shard.Manifest{
		Name: "weights", Date: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC),
		Size: 15, ShardSize: 10, Digest: digest, Shards: []shard.Digest{digest, digest},
	}, m)
}

func TestParseManifestRefusesOtherTexts(t *testing.T) {
	replaced := func(name, value string) string { return text(map[string]string{name: value}) }
	for name, body := range map[string]string{
		"nothing":                 "",
		"null":                    "null",
		"an array":                "[]",
		"a string":                `"manifest"`,
		"an empty object":         "{}",
		"a page":                  "<html>404</html>",
		"cut off":                 text(nil)[:50],
		"garbage behind":          text(nil) + "x",
		"a second one behind":     text(nil) + text(nil),
		"NUL behind":              text(nil) + "\x00",
		"a comma too many":        strings.Replace(text(nil), "}", ",}", 1),
		"deep nesting":            replaced("more", strings.Repeat("[", 100_000)),
		"negative size":           replaced("size", "-15"),
		"fraction of a size":      replaced("size", "15.5"),
		"size with exponent":      replaced("size", "1.5e1"),
		"size beyond int64":       replaced("size", "9223372036854775808"),
		"size as text":            replaced("size", `"15"`),
		"no size":                 replaced("size", ""),
		"another size":            replaced("size", "21"),
		"largest size":            replaced("size", "9223372036854775807"),
		"shard size 0":            replaced("shard_size", "0"),
		"no shard size":           replaced("shard_size", ""),
		"negative shard size":     replaced("shard_size", "-10"),
		"shard size beyond int64": replaced("shard_size", "18446744073709551626"),
		"no shards":               replaced("shards", ""),
		"shards are no array":     replaced("shards", `{"1": "`+abc+`"}`),
		"a shard too few":         replaced("shards", digests(1)),
		"a shard too many":        replaced("shards", digests(3)),
		"more than allowed": text(map[string]string{
			"size": "65537", "shard_size": "1", "shards": digests(65537),
		}),
		"an upper-case digest":   replaced("digest", `"`+strings.ToUpper(abc)+`"`),
		"a short digest":         replaced("digest", `"`+abc[1:]+`"`),
		"a digest as a number":   replaced("digest", "1"),
		"a short shard's digest": replaced("shards", `["`+abc+`", ""]`),
		"no date":                replaced("date", `"yesterday"`),
		"date as a number":       replaced("date", "1769860800"),
		"name as a number":       replaced("name", "1"),
		"name too long":          replaced("name", `"`+strings.Repeat("x", 256)+`"`),
	} {
		t.Run(name, func(t *testing.T) {
			m, err := shard.ParseManifest(strings.NewReader(body))
			require.ErrorIs(t, err, shard.ErrManifest)
			assert.Zero(t, m)
			assert.Less(t, len(err.Error()), 2000, "an error must not carry all that the network sent")
		})
	}
}

func TestParseManifestRefusesDigestsThatAreNotThere(t *testing.T) {
	for name, replace := range map[string]map[string]string{
		"no digest of the file": {"digest": ""},
		"null for the file":     {"digest": "null"},
		"null for a shard":      {"shards": `["` + abc + `", null]`},
		"nothing but nulls":     {"shards": "[null, null]", "digest": "null"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := shard.ParseManifest(strings.NewReader(text(replace)))
			require.ErrorIs(t, err, shard.ErrManifest)
		})
	}
}

func TestParseManifestSkipsMembersItDoesNotKnow(t *testing.T) {
	want, err := shard.ParseManifest(strings.NewReader(text(nil)))
	require.NoError(t, err)
	for name, more := range map[string]map[string]string{
		"a number":     {"version": "2"},
		"an object":    {"signature": `{"key": "abc", "size": -1}`},
		"an array":     {"urls": `[["a"], null]`},
		"null":         {"delta": "null"},
		"another case": {"Size": "1", "SHARDS": "null", "Digest": `"` + strings.Repeat("0", 64) + `"`},
		"other words":  {"shardSize": "1", "shard-size": "0"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := shard.ParseManifest(strings.NewReader(text(more)))
			require.NoError(t, err)
			requireEqual(t, want, got)
		})
	}
}

func TestParseManifestReadsEightMebibytesAndNoMore(t *testing.T) {
	body := text(nil)
	padded := func(size int) io.Reader {
		return io.MultiReader(strings.NewReader(body), io.LimitReader(endless(' '), int64(size-len(body))))
	}
	_, err := shard.ParseManifest(padded(maxManifest))
	require.NoError(t, err)
	_, err = shard.ParseManifest(padded(maxManifest + 1))
	require.ErrorIs(t, err, shard.ErrManifest)
	_, err = shard.ParseManifest(endless(' '))
	require.ErrorIs(t, err, shard.ErrManifest)
}

func TestParseManifestReturnsTheErrorOfItsReader(t *testing.T) {
	_, err := shard.ParseManifest(io.MultiReader(strings.NewReader(text(nil)), iotest.ErrReader(errBroken)))
	require.ErrorIs(t, err, errBroken)
	require.NotErrorIs(t, err, shard.ErrManifest, "it is not the manifest that is bad")
}

func TestAutoSizeMakesAboutAThousandShardsWithinBounds(t *testing.T) {
	for size, want := range map[int64]int64{
		0: 500_000, 1: 500_000, 500_000_000: 500_000, 500_000_001: 500_001, 20_000_000_000: 20_000_000,
		64_000_000_000: 64_000_000, 1_000_000_000_000: 64_000_000,
		64_000_000 * shard.MaxShards: 64_000_000, 64_000_000*shard.MaxShards + 1: 64_000_001,
		math.MaxInt64: math.MaxInt64/shard.MaxShards + 1,
	} {
		assert.Equal(t, want, shard.AutoSize(size), "%d", size)
		assert.NoError(t, shard.CheckSize(size, shard.AutoSize(size)))
	}
}

func TestCheckSizeNamesASufficientShardSize(t *testing.T) {
	advice := regexp.MustCompile(`shard size of (\d+) or more`)
	check := func(t require.TestingT, size, shardSize int64) {
		err := shard.CheckSize(size, shardSize)
		require.Error(t, err)
		found := advice.FindStringSubmatch(err.Error())
		require.NotNil(t, found, err.Error())
		least, err := strconv.ParseInt(found[1], 10, 64)
		require.NoError(t, err)
		require.NoError(t, shard.CheckSize(size, least))
		require.Error(t, shard.CheckSize(size, least-1), "a smaller one would do")
	}
	for name, size := range map[string]int64{"smallest": shard.MaxShards + 1, "62 GB": 62e9, "largest": math.MaxInt64} {
		t.Run(name, func(t *testing.T) { check(t, size, 1) })
	}
	t.Run("any", rapid.MakeCheck(func(t *rapid.T) {
		size := rapid.Int64Range(shard.MaxShards+1, math.MaxInt64).Draw(t, "size")
		check(t, size, rapid.Int64Range(1, (size-1)/shard.MaxShards).Draw(t, "shard size"))
	}))
	require.NoError(t, shard.CheckSize(shard.MaxShards, 1))
	require.NoError(t, shard.CheckSize(0, 1))
}

func FuzzParseManifest(f *testing.F) {
	for _, m := range []shard.Manifest{valid(0), valid(1), valid(3)} {
		encoded, err := m.Encode()
		require.NoError(f, err)
		f.Add(encoded)
	}
	for _, replace := range []map[string]string{
		nil,
		{"size": "9223372036854775807", "shard_size": "4611686018427387904"},
		{"size": "-1", "shards": "[]"},
		{"shard_size": "0"},
		{"name": `"\ud800\u0000\u00e9"`, "date": `"2026-01-31T12:00:00.123456789+05:30"`},
		{"date": `"0000-01-01T00:00:00+23:59"`},
		{"date": `"9999-12-31T23:59:59-23:59"`},
		{"date": `"9999-12-31T23:59:59-01:00"`},
		{"more": `{"size": 1}`},
		{"Size": "15"},
		{"digest": "null"},
		{"deltas": `[{"base": "v1", "base_digest": "` + shard.EmptyDigest().String() + `", "size": 1,
			"manifest": "` + shard.EmptyDigest().String() + `"}]`},
	} {
		f.Add([]byte(text(replace)))
	}
	f.Add([]byte("null"))
	f.Add([]byte(fmt.Sprint(text(nil), "x")))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := shard.ParseManifest(bytes.NewReader(body))
		if err != nil {
			require.ErrorIs(t, err, shard.ErrManifest)
			require.Zero(t, m)
			return
		}
		require.NoError(t, m.Validate())
		requireCovered(t, m)
		_, err = m.Date.UTC().MarshalText()
		require.NoError(t, err, "a date in UTC can be written")
		encoded, err := m.Encode()
		require.NoError(t, err, "a manifest that was read can be written")
		again, err := shard.ParseManifest(bytes.NewReader(encoded))
		require.NoError(t, err)
		requireEqual(t, m, again)
		twice, err := again.Encode()
		require.NoError(t, err)
		require.Equal(t, string(encoded), string(twice))
	})
}

// measured is a reader that looks at the memory in use now and then.
type measured struct {
	io.Reader

	next, most uint64
}

func (m *measured) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	if m.next += uint64(n); m.next >= 1<<20 || err != nil {
		m.next = 0
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		m.most = max(m.most, stats.HeapAlloc)
	}
	return n, err
}

func TestAManifestOfUnknownMembersTakesNoMemory(t *testing.T) {
	good, err := shard.Manifest{
		Size: 1, ShardSize: 1, Digest: shard.Digest{1}, Shards: []shard.Digest{{1}},
	}.Encode()
	require.NoError(t, err)
	var text bytes.Buffer
	text.WriteString("{")
	for i := 0; text.Len() < 8<<20-1000; i++ {
		fmt.Fprintf(&text, `"%x":{"a":[0]},`, i)
	}
	text.Write(bytes.TrimPrefix(good, []byte("{")))
	for name, tc := range map[string]struct {
		text io.Reader
		err  string
	}{
		"members": {&text, ""},
		"nulls":   {strings.NewReader(`{"shards":[` + strings.Repeat("null,", 1<<20)), "is not a digest"},
		"nested":  {strings.NewReader(`{"a":` + strings.Repeat("[", 8<<20)), "nested too deep"},
		"more shards": {
			strings.NewReader(`{"shards":[` + strings.Repeat(`"`+strings.Repeat("0", 64)+`",`, 100_000)),
			"more than 65536",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := &measured{Reader: tc.text, next: 1 << 20}
			_, _ = r.Read(nil)
			before := r.most
			_, err := shard.ParseManifest(r)
			if tc.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, shard.ErrManifest)
				require.ErrorContains(t, err, tc.err)
			}
			// An array grows by copies: twice the digests, and a quarter more.
			assert.LessOrEqual(t, r.most-before, uint64(6<<20))
		})
	}
}

func TestNoErrorRepeatsALongTextOfTheNetwork(t *testing.T) {
	long := strings.Repeat("k", 1<<20)
	_, digest := shard.ParseDigest(long)
	_, version := shard.ParseVersion(long)
	for _, err := range []error{shard.CheckLabel(long, ""), digest, version} {
		require.Error(t, err)
		assert.Less(t, len(err.Error()), 300)
	}
}
