package shard_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
)

func TestFileNameHasThreeDigitsOrMore(t *testing.T) {
	for want, number := range map[string]int{
		"shard_001.bin":   1,
		"shard_010.bin":   10,
		"shard_999.bin":   999,
		"shard_1000.bin":  1000,
		"shard_65536.bin": shard.MaxShards,
	} {
		t.Run(want, func(t *testing.T) { assert.Equal(t, want, shard.FileName(number)) })
	}
}

func TestParseFileNameReadsEveryNameThatFileNameMakes(t *testing.T) {
	for number := 1; number <= shard.MaxShards; number++ {
		got, err := shard.ParseFileName(shard.FileName(number))
		require.NoError(t, err)
		require.Equal(t, number, got)
	}
}

func TestParseFileNameTakesThreeToEightDigits(t *testing.T) {
	for text, want := range map[string]int{
		"shard_001.bin":      1,
		"shard_0001.bin":     1,
		"shard_00001.bin":    1,
		"shard_000001.bin":   1,
		"shard_0000001.bin":  1,
		"shard_00000001.bin": 1,
		"shard_12345.bin":    12345,
		"shard_00065536.bin": shard.MaxShards,
	} {
		t.Run(text, func(t *testing.T) {
			got, err := shard.ParseFileName(text)
			require.NoError(t, err)
			assert.Equal(t, want, got)
		})
	}
}

func TestParseFileNameRefusesOtherNames(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":           "",
		"no digits":         "shard_.bin",
		"prefix alone":      "shard_",
		"suffix alone":      ".bin",
		"one digit":         "shard_1.bin",
		"two digits":        "shard_01.bin",
		"nine digits":       "shard_000000001.bin",
		"zero":              "shard_000.bin",
		"above MaxShards":   "shard_65537.bin",
		"eight nines":       "shard_99999999.bin",
		"beyond int64":      "shard_" + strings.Repeat("9", 30) + ".bin",
		"sign":              "shard_-01.bin",
		"plus":              "shard_+01.bin",
		"underscore":        "shard_0_1.bin",
		"letters":           "shard_abc.bin",
		"hexadecimal":       "shard_0x1.bin",
		"space":             "shard_ 01.bin",
		"no suffix":         "shard_001",
		"another suffix":    "shard_001.part",
		"more after it":     "shard_001.bin.part",
		"upper case":        "SHARD_001.BIN",
		"directory":         "v1/shard_001.bin",
		"parent":            "../shard_001.bin",
		"parent within":     "shard_../001.bin",
		"slash within":      "shard_0/1.bin",
		"line feed":         "shard_001.bin\n",
		"NUL":               "shard_001.bin\x00",
		"arabic digits":     "shard_\u0660\u0660\u0661.bin",
		"full-width digits": "shard_\uff10\uff10\uff11.bin",
		"the speed test":    "data1.bin",
		"a megabyte":        "shard_" + strings.Repeat("0", 1<<20) + "1.bin",
	} {
		t.Run(name, func(t *testing.T) {
			number, err := shard.ParseFileName(text)
			require.Error(t, err)
			assert.Zero(t, number)
			assert.Less(t, len(err.Error()), 500, "an error must not carry all that the network sent")
		})
	}
}

func FuzzParseFileName(f *testing.F) {
	for _, text := range []string{
		"shard_001.bin", "shard_00001.bin", "shard_65536.bin", "shard_65537.bin", "shard_000.bin", "shard_01.bin",
		"shard_.bin", "shard_", ".bin", "shard_+01.bin", "../shard_001.bin", "shard_\u0660\u0660\u0661.bin",
		"shard_001.bin\n", "data1.bin",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		number, err := shard.ParseFileName(text)
		if err != nil {
			require.Zero(t, number)
			return
		}
		require.GreaterOrEqual(t, number, 1)
		require.LessOrEqual(t, number, shard.MaxShards)
		require.Equal(t, text, filepath.Base(text), "safe as the name of a file")
		again, err := shard.ParseFileName(shard.FileName(number))
		require.NoError(t, err)
		require.Equal(t, number, again)
	})
}

func TestSHA256SUMSNamesEachShard(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	var digests []shard.Digest
	for _, hex := range []string{a, b} {
		d, err := shard.ParseDigest(hex)
		require.NoError(t, err)
		digests = append(digests, d)
	}
	assert.Equal(t, a+"  shard_001.bin\n"+b+"  shard_002.bin\n", string(shard.SHA256SUMS(digests)))
	assert.Empty(t, shard.SHA256SUMS(nil))
	lines := strings.Split(string(shard.SHA256SUMS(make([]shard.Digest, 1000))), "\n")
	assert.True(t, strings.HasSuffix(lines[999], "  shard_1000.bin"))
}
