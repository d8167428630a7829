package delta_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/delta"
	"github.com/shardcast/shardcast/internal/delta/synthetic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
// other bytes, and copies that predict it: well, badly, or for some of it alone. Parts have sizes, or small ones.
func pair(t *rapid.T, sizes ...int) (base, target []byte, copies []delta.Copy) {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	size := rapid.SampledFrom(append([]int{0, 1, 100, 5000, 70_000, 70_001}, sizes...))
	base = random(r, size.Draw(t, "base"))
	if rapid.Bool().Draw(t, "skewed") {
		for i := range base {
			base[i] &= 3
		}
	}
	target, copies = following(t, r, base, size)
	return base, target, copies
}

// following draws a target of base, as pair does.
func following(t *rapid.T, r *rand.Rand, base []byte, size *rapid.Generator[int]) (target []byte, copies []delta.Copy) {
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
	return target, copies
}

func random(r *rand.Rand, size int) []byte {
	data := make([]byte, (size+7)/8*8)
	for i := 0; i < len(data); i += 8 {
		binary.LittleEndian.PutUint64(data[i:], r.Uint64())
	}
	return data[:size:size]
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

func roundTrip(t *rapid.T, sizes ...int) {
	base, target, copies := pair(t, sizes...)
	encoded := encode(t, base, target, copies)
	require.LessOrEqual(t, len(encoded), len(target)+len(target)/10_000+64)
	require.True(t, bytes.Equal(encoded, encode(t, base, target, copies)), "the same bytes each time")
	got, err := apply(base, encoded, len(target))
	require.NoError(t, err)
	require.True(t, bytes.Equal(target, got))
}

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { roundTrip(t, 300_000, delta.BlockSize, 2*delta.BlockSize+17) })
}

func FuzzWhatIsEncodedIsDecoded(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 4 {
		f.Add(random(r, 1000))
	}
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) { roundTrip(t) }))
}

// TestBlockAfterOneWithLiterals is about what an encoder keeps from block to block.
func TestBlockAfterOneWithLiterals(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	base := random(r, 2*delta.BlockSize)
	target := append(random(r, delta.BlockSize), base[delta.BlockSize:]...)
	half := int64(delta.BlockSize / 2)
	copy(target[delta.BlockSize:], base[:half])
	copies := []delta.Copy{{Offset: 2 * half, Base: 0, Size: half}, {Offset: 3 * half, Base: 3 * half, Size: half}}
	target = append(target, target...)
	copies = append(copies, delta.Copy{Offset: 6 * half, Base: 0, Size: half},
		delta.Copy{Offset: 7 * half, Base: 3 * half, Size: half})
	got, err := apply(base, encode(t, base, target, copies), len(target))
	require.NoError(t, err)
	require.True(t, bytes.Equal(target, got))
}

func TestCopiesAreCheckedBeforeAnythingIsWritten(t *testing.T) {
	for name, copies := range map[string][]delta.Copy{
		"empty":                 {{Size: 0}},
		"negative":              {{Size: -1}},
		"before the target":     {{Offset: -1, Size: 1}},
		"beyond the target":     {{Offset: 100, Size: 1}},
		"end beyond the target": {{Offset: 90, Size: 11}},
		"far beyond the target": {{Offset: math.MaxInt64, Size: math.MaxInt64}},
		"before the base":       {{Base: -1, Size: 1}},
		"beyond the base":       {{Base: 200, Size: 1}},
		"end beyond the base":   {{Base: 195, Size: 6}},
		"far beyond the base":   {{Base: math.MaxInt64, Size: 100}},
		"overlapping":           {{Size: 10}, {Offset: 9, Size: 1}},
		"not ascending":         {{Offset: 10, Size: 1}, {Size: 1}},
		"too many":              make([]delta.Copy, delta.MaxCopies+1),
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			base, target := bytes.NewReader(make([]byte, 200)), bytes.NewReader(make([]byte, 100))
			_, err := delta.Encode(t.Context(), &out, base, target, copies)
			require.ErrorIs(t, err, delta.ErrCopies)
			require.Zero(t, out.Len())
		})
	}
}

func TestAsManyCopiesAsThereMayBe(t *testing.T) {
	base := random(rand.New(rand.NewPCG(1, 1)), delta.MaxCopies)
	copies := make([]delta.Copy, delta.MaxCopies) // each byte from another place, more than a block can have
	target := make([]byte, delta.MaxCopies)
	for i := range copies {
		copies[i] = delta.Copy{Offset: int64(i), Base: int64(len(base) - 1 - i), Size: 1}
		target[i] = base[len(base)-1-i]
	}
	encoded := encode(t, base, target, copies)
	require.LessOrEqual(t, len(encoded), len(target)+1000)
	got, err := apply(base, encoded, len(target))
	require.NoError(t, err)
	require.True(t, bytes.Equal(target, got))
}

func TestEqualBlocksCostNothing(t *testing.T) {
	base := random(rand.New(rand.NewPCG(1, 1)), 20*delta.BlockSize)
	copies := identity(len(base))
	require.Less(t, len(encode(t, base, base, copies)), 40)
	moved := []delta.Copy{{Base: 12345, Size: int64(len(base)) - 12345}}
	require.Less(t, len(encode(t, base, base[12345:], moved)), 40)
}

// TestDeltaIsNearTheBound holds the ratios for which the format was made.
func TestDeltaIsNearTheBound(t *testing.T) {
	const size = 16 << 20
	for _, tc := range []struct {
		name    string
		times   float64 // smaller than the target
		ofBound float64
	}{
		{"bf16-1%", 120, 1.25},
		{"bf16-1%", 150, 1.1},
		{"bf16-3%", 60, 1.05},
		{"fp8-1%", 75, 1.05},
		{"bf16-0.1%", 800, 1.5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			base, target, bound := models()[tc.name](size)
			encoded := encode(t, base, target, identity(size))
			times := size / float64(len(encoded))
			require.GreaterOrEqual(t, times, tc.times)
			require.LessOrEqual(t, float64(len(encoded))/size/bound, tc.ofBound)
			got, err := apply(base, encoded, size)
			require.NoError(t, err)
			require.True(t, bytes.Equal(target, got))
		})
	}
}

func TestBlocksThatAreHeldAreSkipped(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	base := random(r, 12*delta.BlockSize+5)
	target := bytes.Clone(base)
	for i := 3 * delta.BlockSize; i < 9*delta.BlockSize; i += 777 {
		target[i]++
	}
	encoded := encode(t, base, target, identity(len(base)))
	for range 20 {
		held := r.Uint32()
		p := &place{data: make([]byte, len(target)), seen: map[int64]bool{}}
		d, err := delta.NewReader(bytes.NewReader(encoded))
		require.NoError(t, err)
		last := int64(0)
		require.NoError(t, d.Apply(t.Context(), bytes.NewReader(base), p, delta.Progress{
			Skip: func(offset, size int64) bool {
				require.Equal(t, min(delta.BlockSize, int64(len(target))-offset), size)
				return held>>(offset/delta.BlockSize)&1 == 1
			},
			Done: func(end int64) { last = end },
		}))
		require.EqualValues(t, len(target), last)
		for i := range int64(13) {
			require.Equal(t, held>>i&1 == 0, p.seen[i*delta.BlockSize])
		}
		for offset := range p.seen {
			end := min(offset+delta.BlockSize, int64(len(target)))
			require.True(t, bytes.Equal(target[offset:end], p.data[offset:end]))
		}
	}
}

// TestApplyGoesOnWhereItEnded breaks off the delta at many places.
func TestApplyGoesOnWhereItEnded(t *testing.T) {
	base := synthetic.BF16(1, 10*delta.BlockSize)
	target := synthetic.Step(2, base, 2, 0.001)
	copy(target[4*delta.BlockSize:6*delta.BlockSize], base[4*delta.BlockSize:])
	encoded := encode(t, base, target, identity(len(base)))
	for n := 30; n < len(encoded); n += 997 {
		p := &place{data: make([]byte, len(target)), seen: map[int64]bool{}}
		end := int64(0)
		d, err := delta.NewReader(bytes.NewReader(encoded[:n]))
		require.NoError(t, err)
		done := func(now int64) { end = now }
		require.ErrorIs(t, d.Apply(t.Context(), bytes.NewReader(base), p, delta.Progress{Done: done}), delta.ErrFormat)
		require.True(t, bytes.Equal(target[:end], p.data[:end]))

		p.seen = map[int64]bool{}
		d, err = delta.NewReader(bytes.NewReader(encoded))
		require.NoError(t, err)
		skip := func(offset, size int64) bool { return offset+size <= end }
		require.NoError(t, d.Apply(t.Context(), bytes.NewReader(base), p, delta.Progress{Skip: skip}))
		require.True(t, bytes.Equal(target, p.data))
	}
}

// TestBlocksAreWrittenAsTheirBytesCome holds back the last bytes of a delta until all but the last block are written.
func TestBlocksAreWrittenAsTheirBytesCome(t *testing.T) {
	base := synthetic.BF16(1, 4*delta.BlockSize)
	encoded := encode(t, base, synthetic.Step(2, base, 2, 0.001), identity(len(base)))
	in, out := io.Pipe()
	var group errgroup.Group
	done := make(chan int64, 4)
	group.Go(func() error {
		d, err := delta.NewReader(in)
		if err != nil {
			return err
		}
		progress := delta.Progress{Done: func(end int64) { done <- end }}
		return d.Apply(t.Context(), bytes.NewReader(base), nowhere{}, progress)
	})
	_, err := out.Write(encoded[:len(encoded)-10])
	require.NoError(t, err)
	for end := int64(0); end < 3*delta.BlockSize; {
		end = <-done
	}
	_, err = out.Write(encoded[len(encoded)-10:])
	require.NoError(t, err)
	require.NoError(t, out.Close())
	require.NoError(t, group.Wait())
	require.EqualValues(t, 4*delta.BlockSize, <-done)
}

// meeting is a base and a target that wait until two goroutines are in each of them.
type meeting struct {
	*bytes.Reader

	reading, writing chan struct{}
}

var errAlone = errors.New("a test: no second one has come")

func meet(at chan struct{}) error {
	select {
	case at <- struct{}{}:
	case <-at:
	case <-time.After(20 * time.Second):
		return errAlone
	}
	return nil
}

func (m meeting) ReadAt(p []byte, offset int64) (int, error) {
	if err := meet(m.reading); err != nil {
		return 0, err
	}
	return m.Reader.ReadAt(p, offset)
}

func (m meeting) WriteAt(p []byte, _ int64) (int, error) { return len(p), meet(m.writing) }

func TestTwoCoresApplyTwoBlocksAtATime(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	base := random(rand.New(rand.NewPCG(1, 1)), 8*delta.BlockSize)
	target := bytes.Clone(base)
	for i := 7; i < 4*delta.BlockSize; i += delta.BlockSize {
		target[i]++
	}
	d, err := delta.NewReader(bytes.NewReader(encode(t, base, target, identity(len(base)))))
	require.NoError(t, err)
	m := meeting{bytes.NewReader(base), make(chan struct{}), make(chan struct{})}
	require.NoError(t, d.Apply(t.Context(), m, m, delta.Progress{}), "changed blocks, and equal ones")
}
