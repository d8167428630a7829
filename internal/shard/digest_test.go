package shard_test

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
)

// abc is the digest of "abc", the first example of FIPS 180-4.
const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

func TestParseDigestReadsTheOutputOfString(t *testing.T) {
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

// The inputs are those of the official test vectors: byte i is i modulo 251.
func TestBLAKE3HasTheOfficialVectors(t *testing.T) {
	for size, want := range map[int]string{
		0:      "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
		1:      "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
		63:     "e9bc37a594daad83be9470df7f7b3798297c3d834ce80ba85d6e207627b7db7b",
		64:     "4eed7141ea4a5cd4b788606bd23f46e212af9cacebacdc7d1f4c6dc7f2511b98",
		65:     "de1e5fa0be70df6d2be8fffd0e99ceaa8eb6e8c93a63f2d8d1c30ecb6b263dee",
		1023:   "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11",
		1024:   "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
		1025:   "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
		2049:   "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030",
		8193:   "bab6c09cb8ce8cf459261398d2e7aef35700bf488116ceb94a36d0f5f1b7bc3b",
		31744:  "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47",
		102400: "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
	} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i % 251)
		}
		hash := shard.NewBLAKE3()
		for part := range slices.Chunk(data, 1000) {
			_, _ = hash.Write(part)
		}
		assert.Equal(t, want, hex.EncodeToString(hash.Sum(nil)), "%d bytes", size)
	}
	assert.Equal(t, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262", shard.EmptyBLAKE3().String())
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
