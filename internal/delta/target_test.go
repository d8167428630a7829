package delta_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/delta"
)

// readTarget reads the target of an encoded delta, of at most limit bytes, from the start to its end.
func readTarget(base delta.Stream, encoded []byte, limit int) ([]byte, error) {
	d, err := delta.NewReader(bytes.NewReader(encoded))
	if err != nil {
		return nil, err
	}
	if d.Header().TargetSize > int64(limit) {
		return nil, errors.New("a test: not these streams")
	}
	target, err := delta.NewTarget(bytes.NewReader(encoded), base)
	if err != nil {
		return nil, err
	}
	defer target.Close()
	return io.ReadAll(io.NewSectionReader(target, 0, target.Size()))
}

// TestOneTargetIsTheBaseOfTheNext goes over up to five deltas, with nothing written between.
func TestOneTargetIsTheBaseOfTheNext(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "next"), 0))
		size := rapid.SampledFrom([]int{1, 5000, 70_001, delta.BlockSize, delta.BlockSize + 17})
		first, want, copies := pair(t, 300_000, delta.BlockSize)
		last, err := delta.NewTarget(bytes.NewReader(encode(t, first, want, copies)), bytes.NewReader(first))
		require.NoError(t, err)
		defer last.Close()
		for range rapid.IntRange(0, 4).Draw(t, "deltas") {
			next, copies := following(t, r, want, size)
			last, err = delta.NewTarget(bytes.NewReader(encode(t, want, next, copies)), last)
			require.NoError(t, err)
			want = next
		}
		for range 3 {
			from := r.IntN(len(want) + 1)
			got := make([]byte, r.IntN(len(want)-from+1))
			n, err := last.ReadAt(got, int64(from))
			require.NoError(t, err)
			require.True(t, bytes.Equal(want[from:][:n], got))
		}
		n, err := last.ReadAt(make([]byte, 2), max(0, last.Size()-1))
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, min(len(want), 1), n)
	})
}

func TestATargetIsReadByManyAtATime(t *testing.T) {
	const blocks = 12
	r := rand.New(rand.NewPCG(1, 1))
	base := random(r, blocks*delta.BlockSize)
	want := append([]byte("moved"), base...)
	for i := 0; i < len(want); i += 5000 {
		want[i]++
	}
	moved := []delta.Copy{{Offset: 5, Size: int64(len(base))}}
	target, err := delta.NewTarget(bytes.NewReader(encode(t, base, want, moved)), bytes.NewReader(base))
	require.NoError(t, err)
	defer target.Close()
	got := make([]byte, len(want))
	var group errgroup.Group
	for i := 0; i < len(want); i += 700_000 {
		group.Go(func() error {
			_, err := target.ReadAt(got[i:min(len(got), i+700_000)], int64(i))
			return err
		})
	}
	require.NoError(t, group.Wait())
	require.True(t, bytes.Equal(want, got))
}

// TestReadingThatMakesBlocksTooOftenEnds is about a delta that takes each block from many others.
func TestReadingThatMakesBlocksTooOftenEnds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	base := random(r, 4*delta.BlockSize)
	want := bytes.Clone(base)
	for i := 0; i < len(want); i += 1000 {
		want[i]++
	}
	target, err := delta.NewTarget(bytes.NewReader(encode(t, base, want, identity(len(base)))), bytes.NewReader(base))
	require.NoError(t, err)
	defer target.Close()
	for i := 0; err == nil && i < 100; i++ {
		_, err = target.ReadAt(make([]byte, 1), int64(i%3)*delta.BlockSize)
	}
	require.ErrorContains(t, err, "too often")
}

func TestATargetOfAnotherBaseIsRefused(t *testing.T) {
	base := random(rand.New(rand.NewPCG(1, 1)), 1000)
	encoded := encode(t, base, base, identity(len(base)))
	_, err := delta.NewTarget(bytes.NewReader(encoded), strings.NewReader("another"))
	require.ErrorIs(t, err, delta.ErrFormat)
	require.ErrorContains(t, err, "for a base of 1000 bytes, not 7")
	_, err = delta.NewTarget(bytes.NewReader(append(encoded, 1)), bytes.NewReader(base))
	require.ErrorContains(t, err, "goes on after its last block")
	_, err = delta.NewTarget(bytes.NewReader(encoded[:len(encoded)-1]), bytes.NewReader(base))
	require.ErrorContains(t, err, "ends too soon")
}

// TestMemoryOfManyTargetsIsBounded has seven deltas one after the other, of bytes that all change.
func TestMemoryOfManyTargetsIsBounded(t *testing.T) {
	const size, most = 4 << 20, 28 << 20
	r := rand.New(rand.NewPCG(1, 1))
	var encoded [][]byte
	first := random(r, size)
	for was, i := first, 0; i < 7; i++ {
		next := random(r, size)
		for k := 0; k < len(next); k += 3 {
			next[k] = was[k] + 1
		}
		encoded = append(encoded, encode(t, was, next, identity(size)))
		was = next
	}
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var last delta.Stream = bytes.NewReader(first)
	for _, e := range encoded {
		target, err := delta.NewTarget(bytes.NewReader(e), last)
		require.NoError(t, err)
		last = target
	}
	p := make([]byte, delta.BlockSize)
	for offset := int64(0); offset < size; offset += delta.BlockSize / 2 { // both blocks are kept
		_, err := last.ReadAt(p[:min(delta.BlockSize, size-offset)], offset)
		require.NoError(t, err)
	}
	runtime.ReadMemStats(&now)
	require.Less(t, int64(now.HeapInuse)-int64(before.HeapInuse), int64(most))
	runtime.KeepAlive(last)
}
