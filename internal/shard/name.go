package shard

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ManifestName is the name of the file with a version's manifest.
const ManifestName = "manifest.json"

// deltaPrefix begins the name of a delta's directory.
const deltaPrefix = "from_"

// DeltaName returns the name of the directory, in that of a version, of the delta from base:
// "from_v1" for v1.
func DeltaName(base Version) string { return deltaPrefix + base.String() }

// ParseDeltaName returns the base in the name of a delta's directory.
func ParseDeltaName(name string) (base Version, err error) {
	if number, ok := strings.CutPrefix(name, deltaPrefix); ok {
		base, err = ParseVersion(number)
	}
	if err != nil || base == 0 {
		return 0, fmt.Errorf("%.40q is not the name of a delta: want from_v1 and so on", name)
	}
	return base, nil
}

// SumsName is the name of the file with the text of [SHA256SUMS].
const SumsName = "SHA256SUMS"

// SHA256SUMS returns the digests of shards, that of shard i at index i-1, as sha256sum -c
// reads them: a line each, with the name of the shard's file.
func SHA256SUMS(digests []Digest) []byte {
	var text []byte
	for i, d := range digests {
		text = fmt.Appendf(text, "%s  %s\n", d, FileName(i+1))
	}
	return text
}

// BLAKE3Name is the name of the file with the text of [BLAKE3Text].
const BLAKE3Name = "BLAKE3"

// BLAKE3Text returns the text of a file's BLAKE3: 64 hex digits and a line feed.
func BLAKE3Text(digest Digest) []byte { return []byte(digest.String() + "\n") }

// ParseBLAKE3 reads the text that [BLAKE3Text] writes, and nothing else. The error matches
// [ErrDigest], but for those of r.
func ParseBLAKE3(r io.Reader) (Digest, error) {
	text, err := io.ReadAll(io.LimitReader(r, int64(len(Digest{})*2+2)))
	if err != nil {
		return Digest{}, err
	}
	digits, ok := strings.CutSuffix(string(text), "\n")
	if !ok {
		return Digest{}, fmt.Errorf("%w: it is not 64 hex digits and a line feed", ErrDigest)
	}
	digest, err := ParseDigest(digits)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrDigest, err)
	}
	return digest, err
}

// MaxShards bounds the shards of a version, and with them the memory of a manifest from the
// network: 65,536 shards of the default size are 3.2 TB.
const MaxShards = 1 << 16

// FileName returns the name of the file of shard number, "shard_001.bin" for 1.
func FileName(number int) string {
	return fmt.Sprintf("shard_%03d.bin", number)
}

// LongFileName returns the name that some writers give to the file of shard number,
// "shard_00001.bin" for 1.
func LongFileName(number int) string {
	return fmt.Sprintf("shard_%05d.bin", number)
}

// ParseFileName returns the number in a shard's file name. It takes three to eight digits,
// since some writers pad to five, and no number above [MaxShards].
func ParseFileName(name string) (number int, err error) {
	digits, ok := strings.CutPrefix(name, "shard_")
	digits, ok2 := strings.CutSuffix(digits, ".bin")
	if ok && ok2 && len(digits) >= 3 && len(digits) <= 8 && isDigits(digits) {
		number, err = strconv.Atoi(digits)
	}
	if err != nil || number < 1 || number > MaxShards {
		return 0, fmt.Errorf("%.40q is not the name of a shard: want shard_001.bin and so on", name)
	}
	return number, nil
}
