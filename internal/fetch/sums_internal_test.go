package fetch

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"lukechampine.com/blake3"

	"github.com/shardcast/shardcast/internal/shard"
)

func TestSumsAreBothDigestsOfAllThatWasWritten(t *testing.T) {
	data := bytes.Repeat([]byte("some text, "), 100_000)
	for _, both := range []bool{false, true} {
		s := newSums(both)
		for part := range bytes.Lines(data) {
			_, err := s.Write(part)
			require.NoError(t, err)
		}
		_, err := io.CopyBuffer(s, struct{ io.Reader }{bytes.NewReader(data)}, make([]byte, 777))
		require.NoError(t, err)
		sha, blake := s.digests()
		s.close()
		assert.Equal(t, shard.Digest(sha256.Sum256(append(data, data...))), sha)
		if both {
			assert.Equal(t, shard.Digest(blake3.Sum256(append(data, data...))), blake)
		} else {
			assert.Zero(t, blake)
		}
	}
}

// Where a second core is free, both take as long as the SHA-256 alone.
func BenchmarkSums(b *testing.B) {
	data := make([]byte, copyBuffer)
	for _, both := range []bool{false, true} {
		b.Run(fmt.Sprint("both=", both), func(b *testing.B) {
			s := newSums(both)
			defer s.close()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				_, _ = s.Write(data)
			}
		})
	}
}
