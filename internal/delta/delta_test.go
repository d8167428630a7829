package delta_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/delta"
)

// place is a target in memory, for blocks of which each is written once.
type place struct {
	mu   sync.Mutex // guards these
	data []byte
	seen map[int64]bool
}

func (p *place) WriteAt(data []byte, offset int64) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if offset%delta.BlockSize != 0 || len(data) != min(delta.BlockSize, len(p.data)-int(offset)) || p.seen[offset] {
		return 0, errors.New("a test: not a block, or a block for the second time")
	}
	p.seen[offset] = true
	return copy(p.data[offset:], data), nil
}

func encode(t require.TestingT, base, target []byte, copies []delta.Copy) []byte {
	var out bytes.Buffer
	stats, err := delta.Encode(context.Background(), &out, bytes.NewReader(base), bytes.NewReader(target), copies)
	require.NoError(t, err)
	require.EqualValues(t, out.Len(), stats.Size)
	return out.Bytes()
}

// apply returns the target of an encoded delta that is for base, and for a target of at most limit bytes.
func apply(base, encoded []byte, limit int) ([]byte, error) {
	d, err := delta.NewReader(bytes.NewReader(encoded))
	if err != nil {
		return nil, err
	}
	if d.Header().BaseSize != int64(len(base)) || d.Header().TargetSize > int64(limit) {
		return nil, errors.New("a test: not these streams")
	}
	p := &place{data: make([]byte, d.Header().TargetSize), seen: map[int64]bool{}}
	end := int64(0)
	err = d.Apply(context.Background(), bytes.NewReader(base), p, delta.Progress{Done: func(now int64) {
		if now <= end || now > d.Header().TargetSize {
			panic("a test: progress does not grow")
		}
		end = now
	}})
	if err == nil && end != d.Header().TargetSize {
		return nil, errors.New("a test: progress does not reach the end")
	}
	return p.data, err
}

// pair draws a base, a target of up to three blocks that is made of parts of the base, changed here and there, and of
// other bytes, and copies that predict it: well, badly, or for some of it alone.
func pair(t *rapid.T) (base, target []byte, copies []delta.Copy) {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	size := rapid.SampledFrom([]int{0, 1, 100, 70_000, delta.BlockSize, 2*delta.BlockSize + 17})
	base = random(r, size.Draw(t, "base"))
	if rapid.Bool().Draw(t, "skewed") {
		for i := range base {
			base[i] &= 3
		}
	}
	for range rapid.IntRange(0, 6).Draw(t, "parts") {
		n := min(size.Draw(t, "size"), 3*delta.BlockSize-len(target))
		from := 0
		if len(base) > 0 {
			from = r.IntN(len(base))
		}
		n = min(n, len(base)-from)
		switch rapid.SampledFrom([]string{"copy", "unsaid", "wrong", "random", "zero"}).Draw(t, "part") {
		case "copy":
			if n > 0 {
				copies = append(copies, delta.Copy{Offset: int64(len(target)), Base: int64(from), Size: int64(n)})
			}
			target = append(target, base[from:][:n]...)
			alter(t, r, target[len(target)-n:])
		case "unsaid":
			target = append(target, base[from:][:n]...)
		case "wrong":
			if n > 0 {
				copies = append(copies, delta.Copy{Offset: int64(len(target)), Base: int64(from), Size: int64(n)})
			}
			target = append(target, random(r, n)...)
		case "random":
			target = append(target, random(r, r.IntN(1000))...)
		case "zero":
			target = append(target, make([]byte, n)...)
		}
	}
	return base, target, copies
}

func random(r *rand.Rand, size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

// alter changes lanes of data, each with the same probability.
func alter(t *rapid.T, r *rand.Rand, data []byte) {
	width := rapid.SampledFrom([]int{1, 2, 4}).Draw(t, "width")
	mean := rapid.SampledFrom([]int{1, 3, 100, 10_000}).Draw(t, "lanes to a change")
	for i := r.IntN(2 * mean); (i+1)*width <= len(data); i += 1 + r.IntN(2*mean) {
		for k := range width {
			if data[i*width+k]++; data[i*width+k] != 0 || r.IntN(3) == 0 {
				break
			}
		}
	}
}

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, target, copies := pair(t)
		encoded := encode(t, base, target, copies)
		require.LessOrEqual(t, len(encoded), len(target)+len(target)/10_000+64)
		require.True(t, bytes.Equal(encoded, encode(t, base, target, copies)), "the same bytes each time")
		got, err := apply(base, encoded, len(target))
		require.NoError(t, err)
		require.True(t, bytes.Equal(target, got))
	})
}
