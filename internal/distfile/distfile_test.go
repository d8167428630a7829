package distfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

var (
	one = strings.Repeat("1", 64)
	two = strings.Repeat("2a", 32)

	errBroken = errors.New("broken")
)

func entry(t testing.TB, version shard.Version, digest string, count int) distfile.Entry {
	d, err := shard.ParseDigest(digest)
	require.NoError(t, err)
	return distfile.Entry{Version: version, Digest: d, Count: count}
}

func TestParseTakesTheFormsOfAllWriters(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want []distfile.Entry
	}{
		"nothing":     {"", nil},
		"blank lines": {"\n\r\n \t\n", nil},
		"the canonical form": {
			"v1: " + one + "\nv2: " + two + "\n",
			[]distfile.Entry{entry(t, 1, one, 0), entry(t, 2, two, 0)},
		},
		"no line feed at the end": {"v1: " + one, []distfile.Entry{entry(t, 1, one, 0)}},
		"a count":                 {"v1: " + one + "|3\n", []distfile.Entry{entry(t, 1, one, 3)}},
		"a count and none": {
			"v1: " + one + "|3\nv2: " + two + "\n",
			[]distfile.Entry{entry(t, 1, one, 3), entry(t, 2, two, 0)},
		},
		"a count of nothing": {"v1: " + one + "|0\n", []distfile.Entry{entry(t, 1, one, 0)}},
		"the largest count":  {"v1: " + one + "|65536\n", []distfile.Entry{entry(t, 1, one, 65536)}},
		"CR LF": {
			"v1: " + one + "\r\nv2: " + two + "|7\r\n",
			[]distfile.Entry{entry(t, 1, one, 0), entry(t, 2, two, 7)},
		},
		"CR at the end":           {"v1: " + one + "\r", []distfile.Entry{entry(t, 1, one, 0)}},
		"no space":                {"v1:" + one + "\n", []distfile.Entry{entry(t, 1, one, 0)}},
		"spaces around all parts": {" \tv1 :   " + one + " |  3 \t\r\n", []distfile.Entry{entry(t, 1, one, 3)}},
		"blank lines between": {
			"\nv1: " + one + "\n\n\nv2: " + two + "\n\n",
			[]distfile.Entry{entry(t, 1, one, 0), entry(t, 2, two, 0)},
		},
		"descending": {
			"v2: " + two + "\nv1: " + one + "\n",
			[]distfile.Entry{entry(t, 1, one, 0), entry(t, 2, two, 0)},
		},
		"by number, not by letters": {
			"v10: " + one + "\nv9: " + one + "\nv100: " + one + "\n",
			[]distfile.Entry{entry(t, 9, one, 0), entry(t, 10, one, 0), entry(t, 100, one, 0)},
		},
		"gaps": {
			"v3: " + one + "\nv999999999999999999: " + one + "\n",
			[]distfile.Entry{entry(t, 3, one, 0), entry(t, 999_999_999_999_999_999, one, 0)},
		},
		"one file, two versions": {
			"v1: " + one + "\nv2: " + one + "\n",
			[]distfile.Entry{entry(t, 1, one, 0), entry(t, 2, one, 0)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			entries, skipped, err := distfile.Parse(strings.NewReader(tc.text))
			require.NoError(t, err)
			assert.Empty(t, skipped)
			assert.Equal(t, tc.want, entries)
		})
	}
}

func TestParseSkipsABadLineAndKeepsTheOthers(t *testing.T) {
	for name, line := range map[string]string{
		"no colon":              "v1 " + one,
		"another separator":     "v1= " + one,
		"a colon alone":         ":",
		"no version":            ": " + one,
		"no digest":             "v1:",
		"version 0":             "v0: " + one,
		"leading zero":          "v01: " + one,
		"no v":                  "1: " + one,
		"upper-case version":    "V1: " + one,
		"a path":                "../evil: " + one,
		"a version too long":    "v1000000000000000000: " + one,
		"a short digest":        "v1: " + one[1:],
		"a long digest":         "v1: " + one + "1",
		"an upper-case digest":  "v1: " + strings.ToUpper(two),
		"no hex":                "v1: " + strings.Repeat("g", 64),
		"another algorithm":     "v1: sha256:" + one,
		"a count that is none":  "v1: " + one + "|",
		"a count of letters":    "v1: " + one + "|x",
		"a negative count":      "v1: " + one + "|-1",
		"a signed count":        "v1: " + one + "|+1",
		"a fraction":            "v1: " + one + "|1.5",
		"a count too large":     "v1: " + one + "|65537",
		"a count beyond int64":  "v1: " + one + "|99999999999999999999",
		"two counts":            "v1: " + one + "|1|2",
		"a word behind":         "v1: " + one + " weights",
		"a comment":             "# v1: " + one,
		"a page":                "<html><body>Not Found</body></html>",
		"NUL in the digest":     "v1: " + one[1:] + "\x00",
		"NUL behind":            "v1: " + one + "\x00",
		"NUL before":            "\x00v1: " + one,
		"nothing but NUL":       strings.Repeat("\x00", 100),
		"byte order mark":       "\ufeffv1: " + one,
		"not UTF-8":             "v1: \xff\xfe" + one,
		"CR within":             "v1: " + one + "\rv2: " + one,
		"one very long line":    strings.Repeat("v", 100_000),
		"a very long version":   "v" + strings.Repeat("1", 100_000) + ": " + one,
		"a very long digest":    "v1: " + strings.Repeat("1", 100_000),
		"a very long count":     "v1: " + one + "|" + strings.Repeat("1", 100_000),
		"UTF-16":                "v\x001\x00:\x00",
		"escapes of a terminal": "\x1b[2J",
	} {
		t.Run(name, func(t *testing.T) {
			text := "v7: " + two + "\n" + line + "\nv8: " + two + "|4\n"
			entries, skipped, err := distfile.Parse(strings.NewReader(text))
			require.NoError(t, err)
			assert.Equal(t, []distfile.Entry{entry(t, 7, two, 0), entry(t, 8, two, 4)}, entries)
			require.Len(t, skipped, 1)
			assert.Equal(t, 2, skipped[0].Line)
			require.ErrorIs(t, skipped[0], skipped[0].Err)
			message := skipped[0].Error()
			assert.Contains(t, message, "distribution.txt, line 2: ")
			assert.Less(t, len(message), 1000, "a log must not repeat a whole line of the network")
			assert.NotContains(t, message, "\x1b")
			assert.NotContains(t, message, "\n")
		})
	}
}

func TestParseLetsTheFirstOfTwoLinesCount(t *testing.T) {
	text := "\nv2: " + two + "\nv1: " + one + "|3\n\nv1: " + two + "|4\nv1: " + one + "|3\n"
	entries, skipped, err := distfile.Parse(strings.NewReader(text))
	require.NoError(t, err)
	assert.Equal(t, []distfile.Entry{entry(t, 1, one, 3), entry(t, 2, two, 0)}, entries)
	require.Len(t, skipped, 2)
	require.EqualError(t, skipped[0], "distribution.txt, line 5: v1 stands in line 3 already")
	require.EqualError(t, skipped[1], "distribution.txt, line 6: v1 stands in line 3 already")
}

func TestParseDoesNotCountABadLineAsTheFirst(t *testing.T) {
	entries, skipped, err := distfile.Parse(strings.NewReader("v1: " + one + "|x\nv1: " + two + "\n"))
	require.NoError(t, err)
	assert.Equal(t, []distfile.Entry{entry(t, 1, two, 0)}, entries)
	require.Len(t, skipped, 1)
	assert.Equal(t, 1, skipped[0].Line)
}

func TestParseReportsTwentyBadLinesAtMost(t *testing.T) {
	text := strings.Repeat("bad\n", 10_000) + "v1: " + one + "\n"
	entries, skipped, err := distfile.Parse(strings.NewReader(text))
	require.NoError(t, err)
	assert.Equal(t, []distfile.Entry{entry(t, 1, one, 0)}, entries)
	require.Len(t, skipped, 20)
	for i, line := range skipped {
		assert.Equal(t, i+1, line.Line)
	}
}

func TestParseReadsOneMebibyteAndNoMore(t *testing.T) {
	require.Equal(t, 1<<20, distfile.MaxSize)
	line := "v1: " + one + "\n"
	padded := func(size int) io.Reader {
		return strings.NewReader(strings.Repeat("\n", size-len(line)) + line)
	}
	entries, skipped, err := distfile.Parse(padded(distfile.MaxSize))
	require.NoError(t, err)
	assert.Empty(t, skipped)
	assert.Equal(t, []distfile.Entry{entry(t, 1, one, 0)}, entries)

	entries, skipped, err = distfile.Parse(padded(distfile.MaxSize + 1))
	require.ErrorIs(t, err, distfile.ErrTooLong)
	assert.Nil(t, entries)
	assert.Nil(t, skipped)

	_, _, err = distfile.Parse(endless{})
	require.ErrorIs(t, err, distfile.ErrTooLong)
}

// endless is a text of line feeds that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '\n'
	}
	return len(p), nil
}

func TestParseReturnsTheErrorOfItsReader(t *testing.T) {
	entries, skipped, err := distfile.Parse(io.MultiReader(strings.NewReader("v1: "+one+"\nbad\n"),
		iotest.ErrReader(errBroken)))
	require.ErrorIs(t, err, errBroken)
	assert.Nil(t, entries, "half a distribution is none")
	assert.Nil(t, skipped)
}

func TestEncodeWritesTheCanonicalForm(t *testing.T) {
	entries := []distfile.Entry{entry(t, 10, two, 5), entry(t, 2, one, 0), entry(t, 1, one, 3)}
	given := slices.Clone(entries)
	assert.Equal(t, "v1: "+one+"|3\nv2: "+one+"\nv10: "+two+"|5\n", string(distfile.Encode(entries)))
	assert.Equal(t, given, entries, "the caller's entries stay in their order")
	assert.Empty(t, distfile.Encode(nil))
}

func TestParseReadsManyEncodedVersions(t *testing.T) {
	for _, count := range []int{1, 1000, distfile.MaxEntries} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			entries := make([]distfile.Entry, count)
			for i := range entries {
				entries[i].Version = shard.Version(999_999_999_999_999_999 - count + i) // the longest there are
				entries[i].Count = shard.MaxShards
			}
			again, skipped, err := distfile.Parse(bytes.NewReader(distfile.Encode(entries)))
			require.NoError(t, err)
			assert.Empty(t, skipped)
			assert.True(t, slices.Equal(entries, again))
		})
	}
}

func TestSameDoesNotLookAtTheCount(t *testing.T) {
	e := entry(t, 1, one, 0)
	assert.True(t, e.Same(entry(t, 1, one, 3)), "not every writer states it")
	assert.False(t, e.Same(entry(t, 2, one, 0)))
	assert.False(t, e.Same(entry(t, 1, two, 0)))
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"",
		"v1: " + one + "\n",
		"v1: " + one + "|3\nv2: " + two + "\n",
		"v2:" + two + "\r\n v1 : " + one + " | 3 \r\n",
		"v1: " + one + "\nv1: " + two + "\n",
		"v1: " + one + "|x\nv1: " + two,
		"v0: " + one + "\nv01: " + one + "\nv: " + one,
		"../evil: " + one,
		"\n\n\x00\nv1",
		"\ufeffv1: " + one,
		"v999999999999999999: " + one + "|65536",
		strings.Repeat("bad\n", 30),
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, skipped, err := distfile.Parse(bytes.NewReader(text))
		if len(text) > distfile.MaxSize {
			require.ErrorIs(t, err, distfile.ErrTooLong)
			return
		}
		require.NoError(t, err)
		require.LessOrEqual(t, len(skipped), 20)
		for _, line := range skipped {
			require.Positive(t, line.Line)
			require.NotEmpty(t, line.Error())
		}
		shuffled := slices.Clone(entries)
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled),
			func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		encoded := distfile.Encode(shuffled)
		for i := range entries {
			require.True(t, i == 0 || entries[i-1].Version < entries[i].Version, "ascending, and no version twice")
			require.LessOrEqual(t, entries[i].Count, shard.MaxShards)
		}
		again, skipped, err := distfile.Parse(bytes.NewReader(encoded))
		require.NoError(t, err)
		require.Empty(t, skipped)
		require.Equal(t, entries, again)
		require.Equal(t, string(encoded), string(distfile.Encode(again)))
	})
}
