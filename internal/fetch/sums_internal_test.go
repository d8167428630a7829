package fetch

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"lukechampine.com/blake3"

	"github.com/shardcast/shardcast/internal/shard"
)

func TestSumsAreBothDigestsOfAllThatWasWritten(t *testing.T) {
	data := bytes.Repeat([]byte("some text, "), 100_000)
	for _, both := range []bool{false, true} {
		s := newSums(both)
		defer s.close() // again
		for _, r := range []io.Reader{bytes.NewReader(data), iotest.OneByteReader(bytes.NewReader(data[:1000])), iotest.DataErrReader(bytes.NewReader(data[1000:]))} {
			_, err := s.add(r)
			require.NoError(t, err)
		}
		_, err := s.add(iotest.ErrReader(io.ErrClosedPipe))
		require.ErrorIs(t, err, io.ErrClosedPipe)
		sha, blake := s.digests()
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
	data := make([]byte, 64*copyBuffer)
	for _, both := range []bool{false, true} {
		b.Run(fmt.Sprint("both=", both), func(b *testing.B) {
			s := newSums(both)
			defer s.close()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				_, _ = s.add(bytes.NewReader(data))
			}
		})
	}
}
