package match

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"

	"github.com/shardcast/shardcast/internal/delta"
)

const (
	// window is how many bytes a hash is of, and so the shortest match that is found.
	window = 16

	// gain is by how many bytes a new shift must predict more than the present one to be taken.
	gain = 8

	// patience is by how many bytes of the target more may differ than be equal before a shift is given up.
	patience = 128

	// weighed is how far a match is looked at to choose between candidates.
	weighed = 16 << 10
)

// searcher finds the parts of a target that are like a part of a base.
type searcher struct {
	target, base *view
	index        *index
	indexed      bool // index is of base, which takes a read of all of it
	found        *list
	rolling      rolling

	// What is followed: the bytes of the target from start on are compared with those of the base at shift.
	following bool
	shift     int64
	start     int64
	score     int64 // of the bytes from start on: one more for each that is equal, one less for each that is not
	best      int64 // the highest score
	end       int64 // where it was reached
}

// newSearcher returns a searcher that uses index, when it needs one, for this base alone.
func newSearcher(base, target *view, index *index) *searcher {
	return &searcher{base: base, target: target, index: index}
}

// find adds the copies for a part of the target to found. If hinted, those at shift are tried first.
func (s *searcher) find(found *list, part span, hinted bool, shift int64) error {
	start, end := part.start, part.end
	s.found = found
	s.following, s.shift = hinted, shift
	s.start, s.end, s.score, s.best = start, start, 0, 0
	for at := start; at < end && s.target.err == nil && s.base.err == nil; {
		if s.following {
			n := equalFrom(s.target, at, s.base, at+s.shift, end-at)
			at += n
			s.count(n, at)
			if at == end {
				break
			}
		}
		if !s.indexed {
			s.index.fill(s.base)
			s.indexed = true
		}
		at = s.look(at, start, end)
	}
	s.emit(s.end)
	if s.base.err != nil {
		return fmt.Errorf("base: %w", s.base.err)
	}
	if s.target.err != nil {
		return fmt.Errorf("target: %w", s.target.err)
	}
	return nil
}

// count adds n bytes before at that are equal.
func (s *searcher) count(n, at int64) {
	if s.score += n; s.score > s.best {
		s.best, s.end = s.score, at
	}
}

// emit ends what is followed at end.
func (s *searcher) emit(end int64) {
	if s.following && end > s.start {
		s.found.add(delta.Copy{Offset: s.start, Base: s.start + s.shift, Size: end - s.start})
	}
	s.following = false
}

// look goes through the target from at on, byte by byte, until a window's bytes are equal at the shift that is
// followed, or stand at another place of the base. It returns from where on to compare.
func (s *searcher) look(at, start, end int64) int64 {
	s.rolling = rolling{}
	for p := max(start, at-window+1); p < at; { // so that the first window ends at the first byte
		data := s.target.from(p)
		for _, b := range data[:min(len(data), int(at-p))] {
			s.roll(b)
			p++
		}
		if len(data) == 0 {
			break
		}
	}
	for found := false; at < end && !found; {
		data, base := s.target.from(at), []byte(nil)
		if s.following {
			if base = s.base.from(at + s.shift); len(base) == 0 {
				s.emit(s.end) // the base ends here
				continue
			}
			data = data[:min(len(data), len(base))]
		}
		if len(data) == 0 {
			return end
		}
		at, found = s.step(data[:min(len(data), int(min(end-at, pageSize)))], base, at, start, end)
	}
	return at
}

// rolling is the hash of the windows in one look.
type rolling struct {
	hash  uint32
	bytes int    // that hash is of, and those before
	last  uint32 // the last hash that was looked for: repeated bytes have the same again and again
	equal int    // bytes one after the other that are equal at the shift which is followed
}

// roll adds a byte, and says whether the window that it ends is to be looked for.
func (s *searcher) roll(b byte) bool {
	s.rolling.hash = s.index.roll(s.rolling.hash, b)
	s.rolling.bytes++
	return s.rolling.bytes >= window && s.index.chosen(s.rolling.hash) && s.rolling.hash != s.rolling.last
}

// step looks at data, the bytes of the target from at on, beside those of the base, if a shift is followed. It returns
// how far it has come, and whether that is from where on to compare.
func (s *searcher) step(data, base []byte, at, start, end int64) (next int64, found bool) {
	for i, b := range data {
		at++
		look := s.roll(b)
		if base != nil {
			s.compare(b == base[i], at)
			if s.rolling.equal >= window {
				return at, true
			}
			if !s.following {
				base = nil
			}
		}
		if !look {
			continue
		}
		s.rolling.last = s.rolling.hash
		if next, ok := s.turn(s.rolling.hash, at, start, end); ok {
			return next, true
		}
		if s.following {
			return at, false // the page of the base may have been given up for another one
		}
	}
	return at, false
}

// compare counts the byte before at, which is equal at the shift or not, and gives the shift up if too many are not.
func (s *searcher) compare(equal bool, at int64) {
	if equal {
		s.count(1, at)
		s.rolling.equal++
		return
	}
	s.rolling.equal = 0
	if s.score--; s.score < s.best-patience {
		s.emit(s.end)
	}
}

// turn follows another shift, if the window that ends at has a match which predicts more.
func (s *searcher) turn(hash uint32, at, start, stop int64) (next int64, ok bool) {
	var found delta.Copy
	for _, base := range s.index.find(hash) {
		if base == 0 || s.following && base-at == s.shift {
			continue
		}
		before := equalBefore(s.target, at, s.base, base, min(at-start, weighed))
		if before < window {
			continue
		}
		size := before + equalFrom(s.target, at, s.base, base, min(stop-at, weighed))
		if size > found.Size {
			found = delta.Copy{Offset: at - before, Base: base - before, Size: size}
		}
	}
	if found.Size == 0 || s.following && s.equalAtShift(found.Offset, found.Size)+gain > found.Size {
		return 0, false
	}
	s.emit(min(s.end, found.Offset))
	free := max(start, end(s.found.last())) // from where on the target has no copy yet
	if over := free - found.Offset; over > 0 {
		found = delta.Copy{Offset: free, Base: found.Base + over, Size: found.Size - over}
	}
	before := s.likeBefore(found.Offset, found.Base, found.Offset-free)
	s.following, s.shift = true, found.Base-found.Offset
	s.start = found.Offset - before
	s.end = found.Offset + found.Size
	s.score, s.best = found.Size, found.Size
	return s.end, true
}

// equalAtShift counts the bytes of the target that are equal at the shift which is followed.
func (s *searcher) equalAtShift(offset, size int64) (equal int64) {
	for size > 0 {
		p, q := s.target.from(offset), s.base.from(offset+s.shift)
		n := min(len(p), len(q), int(min(size, pageSize)))
		if n == 0 {
			break
		}
		for i := range n {
			if p[i] == q[i] {
				equal++
			}
		}
		offset += int64(n)
		size -= int64(n)
	}
	return equal
}

// likeBefore returns how many bytes before x of the target, at most limit, are best predicted by those before y of
// the base, though they are not all equal.
func (s *searcher) likeBefore(x, y, limit int64) (size int64) {
	score, best := 0, 0
	for n := int64(0); n < limit; {
		p, q := s.target.before(x-n), s.base.before(y-n)
		most := min(len(p), len(q), int(min(limit-n, pageSize)))
		if most == 0 {
			break
		}
		p, q = p[len(p)-most:], q[len(q)-most:]
		for k := most - 1; k >= 0; k-- {
			n++
			if p[k] == q[k] {
				if score++; score > best {
					best, size = score, n
				}
			} else if score--; score < best-patience {
				return size
			}
		}
	}
	return size
}

// index finds a window's bytes in a base by their hash: the places of some windows, which the hash itself chooses, so
// that the same bytes are chosen in the target.
type index struct {
	rare  uint     // one window of 2^rare is chosen
	slots []uint64 // place<<24 | check; a place is where the window ends
	shift uint     // of what a hash is multiplied with, for the slot
	gear  [256]uint32
}

const (
	// maxSlots, in bits, is how many slots there are at most: they take 4 MiB.
	maxSlots = 19

	// minRare: small bases are found as well with one window of eight, and take less time.
	minRare = 3

	// tries is how many slots a window may be in.
	tries = 4

	// maxPlace is the first place that is not indexed.
	maxPlace = 1 << 40
)

func newIndex() *index {
	x := &index{}
	random := rand.New(rand.NewPCG(0, 0)) // any numbers will do, if they are always the same
	for i := range x.gear {
		x.gear[i] = random.Uint32()
	}
	return x
}

// fill indexes a base, in place of the one before it.
func (x *index) fill(base *view) {
	size := base.end - base.start
	rare := max(minRare, bits.Len64(uint64(size))-maxSlots)
	n := max(10, bits.Len64(uint64(size>>rare)))
	x.rare, x.shift = uint(rare), uint(64-n)
	slots := 1<<n + tries
	if slots > cap(x.slots) {
		x.slots = make([]uint64, slots)
	}
	x.slots = x.slots[:slots]
	clear(x.slots)
	x.add(base)
}

// add indexes the windows of base.
func (x *index) add(base *view) {
	hash, last := uint32(0), uint32(0)
	for at := base.start; at < maxPlace; {
		data := base.from(at)
		if len(data) == 0 {
			return
		}
		for _, b := range data {
			hash = x.roll(hash, b)
			at++
			if at-base.start >= window && x.chosen(hash) && hash != last {
				x.put(hash, at)
				last = hash
			}
		}
	}
}

func (x *index) chosen(hash uint32) bool {
	return hash*0x9e3779b1>>(32-x.rare) == 0
}

// slot returns where the window of that hash is, and what tells it from others in the same slots.
func (x *index) slot(hash uint32) (slots []uint64, check uint64) {
	h := uint64(hash) * 0x9e3779b97f4a7c15
	return x.slots[h>>x.shift:][:tries], h << (64 - x.shift) >> 40
}

func (x *index) put(hash uint32, place int64) {
	slots, check := x.slot(hash)
	for i := range slots {
		if slots[i] == 0 {
			slots[i] = uint64(place)<<24 | check
			return
		}
	}
}

// find returns the places where a window of that hash may end; 0 stands for none.
func (x *index) find(hash uint32) (places [tries]int64) {
	slots, check := x.slot(hash)
	for i, s := range slots {
		if s&0xffffff == check {
			places[i] = int64(s >> 24)
		}
	}
	return places
}

// roll adds a byte to a hash, which is of the last 16 bytes, since each byte is shifted out after so many.
func (x *index) roll(hash uint32, b byte) uint32 { return hash<<2 + x.gear[b] }

func equalPrefix(p, q []byte) int {
	q = q[:len(p)]
	i := 0
	for ; i+8 <= len(p); i += 8 {
		if x := binary.LittleEndian.Uint64(p[i:]) ^ binary.LittleEndian.Uint64(q[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < len(p) && p[i] == q[i] {
		i++
	}
	return i
}
