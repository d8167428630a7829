package shard_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
)

// abc is the digest of "abc", the first example of FIPS 180-4.
const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

func TestParseDigestReadsWhatStringWrites(t *testing.T) {
	for text, want := range map[string]shard.Digest{
		abc:                     sha256.Sum256([]byte("abc")),
		strings.Repeat("0", 64): {},
	} {
		t.Run(text, func(t *testing.T) {
			got, err := shard.ParseDigest(text)
			require.NoError(t, err)
			assert.Equal(t, want, got)
			assert.Equal(t, text, got.String())

			marshaled, err := got.MarshalText()
			require.NoError(t, err)
			assert.Equal(t, text, string(marshaled))
			var again shard.Digest
			require.NoError(t, again.UnmarshalJSON([]byte(`"`+text+`"`)))
			assert.Equal(t, want, again)
		})
	}
}

func TestEmptyDigestIsThatOfNoBytes(t *testing.T) {
	assert.Equal(t, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", shard.EmptyDigest().String())
}

func TestParseDigestRefusesAllButLowerCaseHex(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":              "",
		"63 digits":            abc[1:],
		"65 digits":            abc + "0",
		"twice":                abc + abc,
		"upper case":           strings.ToUpper(abc),
		"one upper case":       "B" + abc[1:],
		"no digit within":      abc[:30] + "g" + abc[31:],
		"space within":         abc[:30] + " " + abc[31:],
		"space before":         " " + abc,
		"line feed after":      abc + "\n",
		"line feed for digit":  abc[:63] + "\n",
		"NUL":                  abc[:63] + "\x00",
		"prefix":               "0x" + abc[2:],
		"wide digits":          strings.Repeat("\uff10", 21) + "0",
		"a megabyte of digits": strings.Repeat("0", 1<<20),
		"an MD5":               hex.EncodeToString(make([]byte, 16)),
	} {
		t.Run(name, func(t *testing.T) {
			d, err := shard.ParseDigest(text)
			require.Error(t, err)
			assert.Zero(t, d)
			assert.Less(t, len(err.Error()), 1000, "an error must not carry all that the network sent")

			d = shard.EmptyDigest()
			require.Error(t, d.UnmarshalJSON([]byte(strconv.Quote(text))))
		})
	}
}
