package synthetic_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/delta/synthetic"
)

func TestWeightsHaveTheDeviation(t *testing.T) {
	data := synthetic.BF16(1, 1<<20)
	squares := 0.0
	for i := 0; i < len(data); i += 2 {
		v := float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[i:])) << 16))
		squares += v * v
	}
	assert.InDelta(t, 0.02, math.Sqrt(squares/(1<<19)), 0.0002)
	assert.Equal(t, data, synthetic.BF16(1, 1<<20))
	assert.NotEqual(t, data, synthetic.BF16(2, 1<<20))
}

func TestStepChangesTheFractionByUnits(t *testing.T) {
	for name, tc := range map[string]struct {
		base  []byte
		width int
	}{
		"bf16": {synthetic.BF16(1, 1<<20), 2},
		"fp8":  {synthetic.FP8(1, 1<<19), 1},
	} {
		t.Run(name, func(t *testing.T) {
			target := synthetic.Step(2, tc.base, tc.width, 0.01)
			counts := map[int]int{}
			for i := 0; i < len(target); i += tc.width {
				d := int(target[i]) - int(tc.base[i])
				if tc.width == 2 {
					d = int(binary.LittleEndian.Uint16(target[i:])) - int(binary.LittleEndian.Uint16(tc.base[i:]))
				}
				counts[d]++
			}
			const lanes = 1 << 19
			assert.InDelta(t, 0.01, float64(lanes-counts[0])/lanes, 0.001)
			assert.InDelta(t, 0.0045, float64(counts[1])/lanes, 0.0005)
			assert.InDelta(t, 0.0045, float64(counts[-1])/lanes, 0.0005)
			assert.Positive(t, counts[5]+counts[-5])
			assert.Zero(t, counts[6]+counts[-6])
		})
	}
}

func TestBound(t *testing.T) {
	// H(0.01) is 0.0808; a change takes 1 bit for its direction and 0.626 for its size.
	assert.InDelta(t, 0.0808+0.01*1.626, synthetic.Bound(0.01), 0.0001)
}
