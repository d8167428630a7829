package delta

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// maxLane is the width in bytes of the widest lane. Buffers of lanes have so many bytes more than they need, so that
// the last lane can be read and written whole.
const maxLane = 4

// changes are the lanes in which a target differs from its prediction, as they stand in a block.
type changes struct {
	count  int
	gaps   []byte
	planes [maxLane][]byte
}

func (c *changes) reset() {
	c.count = 0
	c.gaps = c.gaps[:0]
	for i := range c.planes {
		c.planes[i] = c.planes[i][:0]
	}
}

// appendGap appends the number of lanes that are equal before one that is not.
func (c *changes) appendGap(gap int) {
	for ; gap >= 255; gap -= 255 {
		c.gaps = append(c.gaps, 255)
	}
	c.gaps = append(c.gaps, byte(gap))
}

// find adds the lanes of width bytes in which target differs from base. Both have the same number of bytes, a
// multiple of 8; what is added to fill them up must be equal.
func (c *changes) find(target, base []byte, width int) {
	switch width {
	case 1:
		find(c, target, base, 0xff, 3, (*changes).add1)
	case 2:
		find(c, target, base, 0xffff, 4, (*changes).add2)
	case 4:
		find(c, target, base, 0xffffffff, 5, (*changes).add4)
	}
}

// find looks at 32 bytes at a time: where little has changed, this is what finding takes.
func find(c *changes, target, base []byte, mask uint64, shift int, add func(c *changes, target, base uint64)) {
	base = base[:len(target)]
	perWord := 64 >> shift
	next := 0 // the lane after the last one that differs
	word := func(i int) {
		t, b := binary.LittleEndian.Uint64(target[i:]), binary.LittleEndian.Uint64(base[i:])
		first := i / 8 * perWord
		for x := t ^ b; x != 0; {
			in := bits.TrailingZeros64(x) >> shift
			c.appendGap(first + in - next)
			next = first + in + 1
			add(c, t>>(in<<shift), b>>(in<<shift))
			c.count++
			x &^= mask << (in << shift)
		}
	}
	i := 0
	for ; i+32 <= len(target); i += 32 {
		t, b := target[i:i+32], base[i:i+32]
		x0 := binary.LittleEndian.Uint64(t) ^ binary.LittleEndian.Uint64(b)
		x1 := binary.LittleEndian.Uint64(t[8:]) ^ binary.LittleEndian.Uint64(b[8:])
		x2 := binary.LittleEndian.Uint64(t[16:]) ^ binary.LittleEndian.Uint64(b[16:])
		x3 := binary.LittleEndian.Uint64(t[24:]) ^ binary.LittleEndian.Uint64(b[24:])
		if x0|x1|x2|x3 == 0 {
			continue
		}
		if x0 != 0 {
			word(i)
		}
		if x1 != 0 {
			word(i + 8)
		}
		if x2 != 0 {
			word(i + 16)
		}
		if x3 != 0 {
			word(i + 24)
		}
	}
	for ; i < len(target); i += 8 {
		word(i)
	}
}

func (c *changes) add1(target, base uint64) {
	d := uint8(target) - uint8(base)
	c.planes[0] = append(c.planes[0], (d<<1^uint8(int8(d)>>7))-1)
}

func (c *changes) add2(target, base uint64) {
	d := uint16(target) - uint16(base)
	z := (d<<1 ^ uint16(int16(d)>>15)) - 1
	c.planes[0] = append(c.planes[0], byte(z))
	c.planes[1] = append(c.planes[1], byte(z>>8))
}

func (c *changes) add4(target, base uint64) {
	d := uint32(target) - uint32(base)
	z := (d<<1 ^ uint32(int32(d)>>31)) - 1
	c.planes[0] = append(c.planes[0], byte(z))
	c.planes[1] = append(c.planes[1], byte(z>>8))
	c.planes[2] = append(c.planes[2], byte(z>>16))
	c.planes[3] = append(c.planes[3], byte(z>>24))
}

// apply makes the target of data, which holds the prediction in so many lanes of width bytes, and of changes whose
// planes have count bytes each.
func (c *changes) apply(data []byte, lanes, width int) error {
	at, gaps := -1, c.gaps
	for i := range c.count {
		for {
			if len(gaps) == 0 {
				return formatError("the gaps end too soon")
			}
			gap := gaps[0]
			gaps = gaps[1:]
			at += int(gap)
			if gap < 255 {
				break
			}
		}
		if at++; at >= lanes {
			return formatError("a change is beyond the last lane")
		}
		switch lane := data[at*width:]; width {
		case 1:
			z := c.planes[0][i] + 1
			lane[0] += z>>1 ^ -(z & 1)
		case 2:
			z := uint16(c.planes[0][i]) | uint16(c.planes[1][i])<<8
			z++
			binary.LittleEndian.PutUint16(lane, binary.LittleEndian.Uint16(lane)+(z>>1^-(z&1)))
		case 4:
			z := uint32(c.planes[0][i]) | uint32(c.planes[1][i])<<8 | uint32(c.planes[2][i])<<16 |
				uint32(c.planes[3][i])<<24
			z++
			binary.LittleEndian.PutUint32(lane, binary.LittleEndian.Uint32(lane)+(z>>1^-(z&1)))
		}
	}
	if len(gaps) > 0 {
		return formatError("there are more gaps than changes")
	}
	return nil
}

// cost is about how many bits the changes take, for which only the frequencies of bytes count.
func (c *changes) cost(width int) float64 {
	bits := entropyOf(c.gaps)
	for _, plane := range c.planes[:width] {
		bits += entropyOf(plane)
	}
	return bits
}

// entropyOf is the number of bits in which data can be written byte by byte, without the table for it.
func entropyOf(data []byte) (bits float64) {
	var counts [256]uint32
	for _, b := range data {
		counts[b]++
	}
	for _, n := range counts {
		if n > 0 {
			bits += float64(n) * math.Log2(float64(len(data))/float64(n))
		}
	}
	return bits
}
