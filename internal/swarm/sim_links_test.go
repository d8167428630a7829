package swarm_test

import "container/heap"

// link is one direction of the link of a member, or a shard that arrives at a sender.
type link struct {
	number int     // decides between links of the same speed
	left   float64 // in shards a second
	flows  []*flow
	open   int     // flows that have no speed yet
	least  float64 // that each of these gets at least
}

// links is a heap.
type links []*link

func (h links) Len() int      { return len(h) }
func (h links) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h links) Less(i, j int) bool {
	return h[i].least < h[j].least || h[i].least == h[j].least && h[i].number < h[j].number
}

func (h *links) Push(x any) {
	l, _ := x.(*link)
	*h = append(*h, l)
}

func (h *links) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// share sets the speed of each flow, in shards a second: links are filled, and the flows through a
// full one share it evenly. A flow that has all that has come to its sender gets what still comes there.
func share(all []*member) {
	var full links
	number := 0
	through := func(f *flow, l *link) {
		if len(l.flows) == 0 {
			number++
			l.number = number
			full = append(full, l)
		}
		l.flows = append(l.flows, f)
		l.open++
		f.links = append(f.links, l)
	}
	for _, m := range all {
		m.up, m.down = &link{left: m.speed}, &link{left: m.speed}
	}
	for _, m := range all {
		for _, f := range m.sends {
			f.links = f.links[:0]
			through(f, m.up)
			through(f, f.to.down)
			if i := f.pick.Shard - 1; m.got[i] < 1 && f.to.got[i] >= m.got[i] {
				through(f, &link{left: m.comes(f.pick.Shard)})
			}
		}
	}
	for _, m := range all {
		for _, f := range m.sends {
			f.rate = -1
		}
	}
	for _, l := range full {
		l.least = l.left / float64(l.open)
	}
	heap.Init(&full)
	for len(full) > 0 {
		tight := full[0]
		if tight.open == 0 {
			heap.Pop(&full)
			continue
		}
		rate := max(tight.left/float64(tight.open), 0)
		if rate > tight.least { // others got less of it
			tight.least = rate
			heap.Fix(&full, 0)
			continue
		}
		for _, f := range tight.flows {
			if f.rate >= 0 {
				continue
			}
			f.rate = rate
			for _, l := range f.links {
				l.left -= rate
				l.open--
			}
		}
	}
}

// comes returns the speed at which a shard arrives at m, of the step before.
func (m *member) comes(shard int) (rate float64) {
	for _, f := range m.bring {
		if f.pick.Shard == shard {
			rate += max(f.rate, 0)
		}
	}
	return rate
}
