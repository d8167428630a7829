package shard_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
)

func TestParseVersionTakesANumberWithoutLeadingZeros(t *testing.T) {
	for text, want := range map[string]shard.Version{
		"v1":                  1,
		"v9":                  9,
		"v10":                 10,
		"v4294967296":         1 << 32,
		"v999999999999999999": 999_999_999_999_999_999,
	} {
		t.Run(text, func(t *testing.T) {
			v, err := shard.ParseVersion(text)
			require.NoError(t, err)
			assert.Equal(t, want, v)
			assert.Equal(t, text, v.String())
		})
	}
}

func TestParseVersionRefusesOtherTexts(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":            "",
		"no number":          "v",
		"no v":               "1",
		"zero":               "v0",
		"leading zero":       "v01",
		"zeros":              "v000",
		"19 digits":          "v1000000000000000000",
		"beyond uint64":      "v99999999999999999999",
		"upper case":         "V1",
		"two v":              "vv1",
		"sign":               "v-1",
		"plus":               "v+1",
		"underscore":         "v1_000",
		"point":              "v1.0",
		"hexadecimal":        "v0x1",
		"exponent":           "v1e3",
		"line feed":          "v1\n",
		"carriage return":    "v1\r",
		"space before":       " v1",
		"space after":        "v1 ",
		"space between":      "v 1",
		"NUL":                "v1\x00",
		"parent":             "../x",
		"parent after":       "v1/../../etc",
		"parent within":      "v../1",
		"slash":              "v1/",
		"backslash":          `v1\`,
		"dot":                ".",
		"letters":            "vx",
		"digit, letter":      "v1a",
		"arabic digits":      "v\u0661\u0662",
		"full-width digits":  "v\uff11\uff12",
		"superscript":        "v\u00b9",
		"full-width v":       "\uff561",
		"not UTF-8":          "v1\xff",
		"a megabyte of ones": "v" + strings.Repeat("1", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			v, err := shard.ParseVersion(text)
			require.Error(t, err)
			assert.Zero(t, v)
			assert.Less(t, len(err.Error()), 500, "an error must not carry all that the network sent")
		})
	}
}

func FuzzParseVersion(f *testing.F) {
	for _, text := range []string{
		"v1", "v15", "v999999999999999999", "v0", "v01", "v", "1", "V1", "../x", "v1\n",
		"v1/..", "v1000000000000000000", "v\u0661",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := shard.ParseVersion(text)
		if err != nil {
			require.Zero(t, v)
			return
		}
		require.Positive(t, v)
		require.Equal(t, text, v.String(), "a version has one name")
		require.True(t, filepath.IsLocal(text))
		require.Equal(t, text, filepath.Base(text), "safe as the name of a directory")
	})
}
