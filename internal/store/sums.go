package store

import (
	"bytes"
	"fmt"

	"github.com/shardcast/shardcast/internal/shard"
)

// SumsName is what the file is called that [Sums] makes.
const SumsName = "SHA256SUMS"

// Sums returns the digests of shards, that of shard i at index i-1, as sha256sum -c
// reads them: a line for each, with its file's name.
func Sums(digests []shard.Digest) []byte {
	var text bytes.Buffer
	for i, d := range digests {
		fmt.Fprintf(&text, "%s  %s\n", d, shard.FileName(i+1))
	}
	return text.Bytes()
}
