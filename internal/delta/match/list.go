package match

import (
	"slices"

	"github.com/shardcast/shardcast/internal/delta"
)

// list has copies in their order. Of more than most, which is not 0, it keeps the largest, about.
type list struct {
	copies []delta.Copy
	most   int
	least  int64 // smaller ones are not taken any more
}

// add appends a copy, or makes it one with the last one if it goes on where that ends.
func (l *list) add(c delta.Copy) {
	if n := len(l.copies); n > 0 {
		last := &l.copies[n-1]
		if end(*last) == c.Offset && last.Base+last.Size == c.Base {
			last.Size += c.Size
			return
		}
	}
	if c.Size <= 0 || c.Size < l.least {
		return
	}
	l.copies = append(l.copies, c)
	for len(l.copies) > l.most {
		l.least = max(2*l.least, window)
		l.copies = slices.DeleteFunc(l.copies, func(c delta.Copy) bool { return c.Size < l.least })
	}
}

// last is the last copy, an empty one if there is none.
func (l *list) last() delta.Copy {
	if len(l.copies) == 0 {
		return delta.Copy{}
	}
	return l.copies[len(l.copies)-1]
}

// end is where a copy ends in the target.
func end(c delta.Copy) int64 { return c.Offset + c.Size }
