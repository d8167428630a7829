package verify

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
)

func TestSumsAreBothDigestsOfAllThatWasRead(t *testing.T) {
	data := bytes.Repeat([]byte("some text, "), 100_000)
	blake := shard.NewBLAKE3()
	_, _ = blake.Write(append(bytes.Clone(data), data...))
	for _, both := range []bool{false, true} {
		s := newSums(true, both)
		defer s.close() // again
		for _, r := range []io.Reader{
			bytes.NewReader(data), iotest.OneByteReader(bytes.NewReader(data[:1000])),
			iotest.DataErrReader(bytes.NewReader(data[1000:])),
		} {
			_, err := s.add(r)
			require.NoError(t, err)
		}
		_, err := s.add(iotest.ErrReader(io.ErrClosedPipe))
		require.ErrorIs(t, err, io.ErrClosedPipe)
		gotSHA256, gotBLAKE3 := s.digests()
		assert.Equal(t, shard.Digest(sha256.Sum256(append(bytes.Clone(data), data...))), gotSHA256)
		if both {
			assert.Equal(t, blake.Sum(nil), gotBLAKE3[:])
		} else {
			assert.Zero(t, gotBLAKE3)
		}
	}
}

// Where a second core is free, both take as long as the SHA-256 alone.
func BenchmarkSums(b *testing.B) {
	data := make([]byte, 64*sumsBuffer)
	for _, both := range []bool{false, true} {
		b.Run(fmt.Sprint("both=", both), func(b *testing.B) {
			s := newSums(true, both)
			defer s.close()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				_, _ = s.add(bytes.NewReader(data))
			}
		})
	}
}
