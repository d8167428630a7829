package delta_test

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/delta"
)

// repeated is a stream of size bytes, in which data comes again and again.
type repeated struct {
	data []byte
	size int64
	see  func()
}

func (r repeated) Size() int64 { return r.size }

func (r repeated) ReadAt(p []byte, offset int64) (n int, err error) {
	r.see()
	for n < len(p) && offset < r.size {
		k := copy(p[n:min(int64(len(p)), int64(n)+r.size-offset)], r.data[offset%int64(len(r.data)):])
		n += k
		offset += int64(k)
	}
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

// TestMemoryIsBounded encodes and applies what takes the most: bytes without a prediction, bytes that all change, and
// pieces of few bytes; with more processors than memory for workers.
func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("a test of some seconds")
	}
	const size, most = 64 << 20, 48 << 20
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(16))
	r := rand.New(rand.NewPCG(1, 1))
	base, target := random(r, 3<<20), random(r, 3<<20+8)
	for i := 0; i < len(target); i += 3 {
		target[i] = 'x' // or it would be stored
	}
	var pieces []delta.Copy
	for offset := int64(0); offset+100 < size; offset += 70 {
		pieces = append(pieces, delta.Copy{Offset: offset, Base: (offset * 7919) % (size - 100), Size: 35})
	}
	var before runtime.MemStats
	peak := uint64(0)
	var mu sync.Mutex
	see := func() {
		mu.Lock()
		defer mu.Unlock()
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		peak = max(peak, now.HeapInuse)
	}
	for name, copies := range map[string][]delta.Copy{
		"literals": nil,
		"changes":  identity(size),
		"pieces":   pieces,
	} {
		t.Run(name, func(t *testing.T) {
			b, w := repeated{base, size, func() {}}, repeated{target, size, see}
			encoded, err := os.Create(filepath.Join(t.TempDir(), "delta"))
			require.NoError(t, err)
			defer encoded.Close()
			runtime.GC()
			runtime.ReadMemStats(&before)
			peak = 0
			_, err = delta.Encode(t.Context(), encoded, b, w, copies)
			require.NoError(t, err)
			require.Less(t, int64(peak)-int64(before.HeapInuse), int64(most), "to encode")

			runtime.GC()
			runtime.ReadMemStats(&before)
			peak = 0
			_, err = encoded.Seek(0, io.SeekStart)
			require.NoError(t, err)
			d, err := delta.NewReader(encoded)
			require.NoError(t, err)
			b.see = see
			require.NoError(t, d.Apply(t.Context(), b, seeing(see), delta.Progress{}))
			require.Less(t, int64(peak)-int64(before.HeapInuse), int64(most), "to apply")
		})
	}
}

type seeing func()

func (s seeing) WriteAt(p []byte, _ int64) (int, error) {
	s()
	return len(p), nil
}
