package tree

import (
	"sort"
	"strings"
)

// names are the paths of files, in little memory: one string has them all. What [names.at] returns is a
// part of it.
type names struct {
	text strings.Builder
	ends []uint32 // of each, in text: 100,000 paths of 4,096 bytes are less than 4 GiB
}

func (n *names) add(name string) {
	n.text.WriteString(name)
	n.ends = append(n.ends, uint32(n.text.Len()))
}

// at returns name i.
func (n *names) at(i int) string {
	from := uint32(0)
	if i > 0 {
		from = n.ends[i-1]
	}
	return n.text.String()[from:n.ends[i]]
}

// find returns the index of a name, of names that ascend, or of the first behind it, and whether it is there.
func (n *names) find(name string) (int, bool) {
	return sort.Find(len(n.ends), func(i int) int { return strings.Compare(name, n.at(i)) })
}
