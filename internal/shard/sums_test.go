package shard_test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/shard"
)

// sumsAgree says that Sums of data, written in pieces, are what crypto/sha256 makes of it.
func sumsAgree(t *testing.T, data []byte, shardSize int, piece func() int) {
	t.Helper()
	s := shard.NewSums(int64(shardSize))
	for at := 0; at < len(data); at += shardSize {
		one := data[at:min(at+shardSize, len(data))]
		for rest := one; len(rest) > 0; {
			n := min(piece(), len(rest))
			before := s
			s = s.Clone()
			_, _ = before.Write(data) // which has nothing to do with s
			_, _ = s.Write(rest[:n])
			rest = rest[n:]
		}
		assert.Equal(t, shard.Digest(sha256.Sum256(one)), s.EndShard(), "shard at %d of %d bytes", at, shardSize)
	}
	assert.Equal(t, shard.Digest(sha256.Sum256(data)), s.Whole(), "%d bytes in shards of %d", len(data), shardSize)
}

func TestSumsAreThoseOfTheStandardLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 64<<10)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	for size := range 300 {
		sumsAgree(t, data[:size], 64, func() int { return 1 + random.IntN(100) })
		sumsAgree(t, data[:size], 128, func() int { return 64 })
		sumsAgree(t, data[:size], 100, func() int { return 1 + random.IntN(100) })
	}
	for range 200 {
		size, shardSize := random.IntN(len(data)), 64*(1+random.IntN(500))
		sumsAgree(t, data[:size], shardSize+random.IntN(2), func() int { return 1 + random.IntN(1<<random.IntN(18)) })
	}
	assert.Equal(t, shard.Digest(sha256.Sum256(nil)), shard.NewSums(64).Whole())
}

func FuzzSums(f *testing.F) {
	f.Add([]byte("abc"), uint16(64), uint16(1))
	f.Add(make([]byte, 1000), uint16(128), uint16(63))
	f.Fuzz(func(t *testing.T, data []byte, shardSize, piece uint16) {
		sumsAgree(t, data, int(shardSize)+1, func() int { return int(piece) + 1 })
	})
}

// What is of both digests, beside one of them alone.
func BenchmarkSums(b *testing.B) {
	data := make([]byte, 256<<10)
	b.Run("one", func(b *testing.B) {
		h := sha256.New()
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			h.Write(data)
		}
	})
	for _, shardSize := range []int64{64, 65} {
		b.Run(fmt.Sprintf("both/%d", shardSize), func(b *testing.B) {
			s := shard.NewSums(shardSize)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				_, _ = s.Write(data)
			}
		})
	}
}
