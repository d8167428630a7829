package delta_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/delta"
	"github.com/shardcast/shardcast/internal/delta/synthetic"
)

// cpu is what this process has computed so far.
func cpu(b *testing.B) time.Duration {
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// held is data in a file, as streams of versions are.
func held(b *testing.B, name string, data []byte) *io.SectionReader {
	path := filepath.Join(b.TempDir(), name)
	require.NoError(b, os.WriteFile(path, data, 0o600))
	f, err := os.Open(path)
	require.NoError(b, err)
	b.Cleanup(func() { assert.NoError(b, f.Close()) })
	return io.NewSectionReader(f, 0, int64(len(data)))
}

func identity(size int) []delta.Copy { return []delta.Copy{{Size: int64(size)}} }

func models() map[string]func(size int) (base, target []byte, bound float64) {
	bf16 := func(changed float64) func(size int) (base, target []byte, bound float64) {
		return func(size int) (base, target []byte, bound float64) {
			base = synthetic.BF16(1, size)
			return base, synthetic.Step(2, base, 2, changed), synthetic.Bound(changed) / 16
		}
	}
	return map[string]func(size int) (base, target []byte, bound float64){
		"bf16-0.1%": bf16(0.001),
		"bf16-1%":   bf16(0.01),
		"bf16-3%":   bf16(0.03),
		"fp8-1%": func(size int) (base, target []byte, bound float64) {
			base = synthetic.FP8(1, size)
			return base, synthetic.Step(2, base, 1, 0.01), synthetic.Bound(0.01) / 8
		},
	}
}

func BenchmarkEncode(b *testing.B) {
	for name, model := range models() {
		b.Run(name, func(b *testing.B) {
			base, target, bound := model(64 << 20)
			from, to := held(b, "base", base), held(b, "target", target)
			b.SetBytes(int64(len(target)))
			b.ReportAllocs()
			var stats delta.Stats
			before := cpu(b)
			for b.Loop() {
				var err error
				stats, err = delta.Encode(b.Context(), io.Discard, from, to, identity(len(target)))
				require.NoError(b, err)
			}
			report(b, cpu(b)-before, len(target), stats.Size)
			b.ReportMetric(float64(stats.Size)/float64(len(target))/bound, "of-bound")
		})
	}
}

func report(b *testing.B, used time.Duration, target int, size int64) {
	b.ReportMetric(float64(target)/float64(size), "times-smaller")
	b.ReportMetric(float64(target)*float64(b.N)/1e6/used.Seconds(), "MB/cpu-s")
}

func BenchmarkApply(b *testing.B) {
	for name, model := range models() {
		b.Run(name, func(b *testing.B) {
			base, target, _ := model(64 << 20)
			var d bytes.Buffer
			stats, err := delta.Encode(b.Context(), &d, bytes.NewReader(base), bytes.NewReader(target),
				identity(len(target)))
			require.NoError(b, err)
			from := held(b, "base", base)
			b.SetBytes(int64(len(target)))
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				r, err := delta.NewReader(bytes.NewReader(d.Bytes()))
				require.NoError(b, err)
				require.NoError(b, r.Apply(b.Context(), from, nowhere{}, delta.Progress{}))
			}
			report(b, cpu(b)-before, len(target), stats.Size)
		})
	}
}
