// Package synthetic makes weights, and what a training step makes of them, for tests and measurements of deltas. The
// same seed makes the same bytes. It knows nothing of deltas.
//
// Weights are drawn from a normal distribution of mean 0 and deviation 0.02. A step of Adam in low precision changes
// few of them, since most updates are smaller than half a unit in the last place: each weight is changed with the same
// probability, of those nine of ten by one unit, up or down alike, and the others by two to five units.
package synthetic

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
)

const deviation = 0.02

// units are the sizes of changes in units of the last place, with their frequencies.
func units() []struct {
	size      int
	frequency float64
} {
	return []struct {
		size      int
		frequency float64
	}{{1, 0.90}, {2, 0.06}, {3, 0.02}, {4, 0.01}, {5, 0.01}}
}

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 19)) }

// BF16 returns size bytes, an even number, of weights in bfloat16, little-endian.
func BF16(seed uint64, size int) []byte {
	r := random(seed)
	data := make([]byte, size)
	for i := 0; i+2 <= size; i += 2 {
		v := math.Float32bits(float32(r.NormFloat64() * deviation))
		binary.LittleEndian.PutUint16(data[i:], uint16((v+0x7fff+v>>16&1)>>16))
	}
	return data
}

// FP8 returns size bytes of weights in the 8 bits of E4M3 (4 bits of exponent, 3 of mantissa), scaled so that the
// largest are a quarter of the largest number.
func FP8(seed uint64, size int) []byte {
	const scale = 112 / (5 * deviation)
	r := random(seed)
	data := make([]byte, size)
	for i := range data {
		data[i] = e4m3(r.NormFloat64() * deviation * scale)
	}
	return data
}

func e4m3(v float64) byte {
	sign := byte(0)
	if v < 0 {
		sign, v = 0x80, -v
	}
	_, exponent := math.Frexp(v) // v is in [2^(exponent-1), 2^exponent)
	exponent = max(exponent-1, -6)
	mantissa := int(math.RoundToEven(v * math.Pow(2, float64(3-exponent)))) // 8 to 16, or less if subnormal
	code := (exponent+6)<<3 + mantissa                                      // carries into the exponent
	return sign | byte(min(code, 0x7e))
}

// Step returns weights of width bytes each, 1 or 2, of which about the fraction changed differs from base.
func Step(seed uint64, base []byte, width int, changed float64) []byte {
	r := random(seed)
	data := append([]byte(nil), base...)
	for i := -1; ; {
		// The distance to the next one of independent trials.
		i += 1 + int(math.Log(1-r.Float64())/math.Log(1-changed))
		if (i+1)*width > len(data) {
			return data
		}
		change(r, data[i*width:][:width])
	}
}

// change changes a number by some units of the last place, and leaves its sign. The smallest only grow.
func change(r *rand.Rand, lane []byte) {
	u := r.Float64()
	step := 1
	for _, unit := range units() {
		step = unit.size
		if u -= unit.frequency; u < 0 {
			break
		}
	}
	down := r.IntN(2) == 0
	value, signBit := int(lane[0]), 0x80
	if len(lane) == 2 {
		value, signBit = int(binary.LittleEndian.Uint16(lane)), 0x8000
	}
	if down && value&(signBit-1) >= step {
		value -= step
	} else {
		value += step
	}
	if len(lane) == 2 {
		binary.LittleEndian.PutUint16(lane, uint16(value))
	} else {
		lane[0] = byte(value)
	}
}

// Bound returns the entropy of a step in bits for each weight: for which have changed, and for how.
func Bound(changed float64) float64 {
	bits := 1.0 // up or down
	for _, unit := range units() {
		bits -= unit.frequency * math.Log2(unit.frequency)
	}
	return -changed*math.Log2(changed) - (1-changed)*math.Log2(1-changed) + changed*bits
}
