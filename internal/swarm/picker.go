package swarm

import (
	"math/bits"
	"math/rand/v2"
	"slices"
)

const (
	// UpstreamAtOnce is how many shards a node with neighbours takes from upstream at the
	// same time.
	UpstreamAtOnce = 2

	// sampled is how many of a neighbour's shards are looked at for the rarest one, and
	// drawn is of how many that are fresh one is drawn, for neighbours not to ask for the
	// same ones. They are the first ones, for the digest of the file to be computed behind.
	sampled = 24
	drawn   = 64
)

// Upstream is who a [Pick] is from where that is no neighbour.
const Upstream = -1

// A Pick is what to take next from whom.
type Pick struct {
	Shard int // its number, from 1 on
	Node  int // a neighbour, or Upstream

	// As is how it is asked for: [AsPeer] of a neighbour, one of the others of Upstream.
	As string
}

// A Picker decides for one node and one version which shard to take next from whom. It
// is a plain value: it neither waits nor asks anybody, and is for one goroutine at a time.
type Picker struct {
	// Reader is for a node that nobody can get at: it takes nothing fresh, for upstream
	// would have to send that once more.
	Reader bool

	draw   *rand.Rand
	shards int

	missing  set   // or on their way
	wanting  set   // what is missing, and nobody brings
	asked    []int // by those who read here, in that order
	needed   []int // from upstream
	sent     set   // by upstream, to anybody
	fresh    set   // that no node has, and upstream has sent nobody
	nodes    map[int]*node
	order    []int    // of nodes, shuffled for each pick
	has      []uint16 // how many nodes have shard i+1, or pass it on
	upstream int      // shards on their way from there
	scratch  set
}

// node is a neighbour.
type node struct{ held, arriving set }

func (o *node) holds() set    { return o.held }
func (o *node) passesOn() set { return o.arriving }

// NewPicker returns a Picker for a version of so many shards, of which none is there.
func NewPicker(shards int, draw *rand.Rand) *Picker {
	p := &Picker{
		draw: draw, shards: shards, nodes: make(map[int]*node), has: make([]uint16, shards),
		missing: newSet(shards), wanting: newSet(shards), sent: newSet(shards), fresh: newSet(shards), scratch: newSet(shards),
	}
	for i := range shards {
		p.missing.put(i, true)
		p.wanting.put(i, true)
		p.fresh.put(i, true)
	}
	return p
}

// Join adds a neighbour, of which nothing is known yet, by any number from 0 on.
func (p *Picker) Join(n int) {
	if p.nodes[n] == nil {
		p.nodes[n] = &node{held: newSet(p.shards), arriving: newSet(p.shards)}
		p.order = append(p.order, n)
	}
}

// Leave takes a neighbour away.
func (p *Picker) Leave(n int) {
	p.Told(n, Change{Missing, 1, p.shards})
	delete(p.nodes, n)
	p.order = slices.DeleteFunc(p.order, func(o int) bool { return o == n })
}

// Told notes what a neighbour has, or upstream. Of upstream only what it has sent counts,
// and what was sent stays that.
func (p *Picker) Told(n int, c Change) {
	o := p.nodes[n]
	if o == nil && (n != Upstream || c.State != Sent) {
		return
	}
	for i := max(c.From-1, 0); i < min(c.To, p.shards); i++ {
		if n == Upstream {
			p.sent.put(i, true)
			p.fresh.put(i, false)
			continue
		}
		before := o.held.get(i) || o.arriving.get(i)
		o.held.put(i, c.State == Held || c.State == Sent)
		o.arriving.put(i, c.State == Arriving)
		switch now := c.State != Missing; {
		case now && !before:
			p.has[i]++
		case !now && before:
			p.has[i]--
		}
		p.fresh.put(i, p.has[i] == 0 && !p.sent.get(i))
	}
}

// Ask says that somebody waits for a shard who reads it here: it comes before others.
func (p *Picker) Ask(shard int) { p.asked = p.add(p.asked, shard) }

// Need says that neighbours have not brought a shard for too long: what is asked of
// upstream next is that.
func (p *Picker) Need(shard int) { p.needed = p.add(p.needed, shard) }

// add adds a shard that is not there yet to list, once.
func (p *Picker) add(list []int, shard int) []int {
	if !p.missing.get(shard-1) || slices.Contains(list, shard) {
		return list
	}
	return append(list, shard)
}

// Wanting reports whether any shard is neither there nor on its way.
func (p *Picker) Wanting() bool { return p.wanting.first(nil) >= 0 }

// Elsewhere reports whether a neighbour has any shard that is not there, as far as is known.
func (p *Picker) Elsewhere() bool {
	return p.missing.first(func(i int) bool { return p.has[i] > 0 }) >= 0
}

// Next returns what to take next from whom, of those that may be asked now, which may
// says of each neighbour and of Upstream; and false if there is nothing. What it returns
// is on its way until [Picker.Done] or [Picker.Drop].
func (p *Picker) Next(may func(n int) bool) (Pick, bool) {
	pick, ok := p.choose(may)
	if ok {
		p.wanting.put(pick.Shard-1, false)
		if pick.Node == Upstream {
			p.upstream++
		}
	}
	return pick, ok
}

// Lost says that a shard that was there is wrong after all.
func (p *Picker) Lost(shard int) {
	p.missing.put(shard-1, true)
	p.wanting.put(shard-1, true)
}

// Done says that what was picked is there.
func (p *Picker) Done(k Pick) {
	p.end(k)
	p.missing.put(k.Shard-1, false)
	is := func(shard int) bool { return shard == k.Shard }
	p.asked, p.needed = slices.DeleteFunc(p.asked, is), slices.DeleteFunc(p.needed, is)
}

// Drop says that what was picked has not come, or not all of it.
func (p *Picker) Drop(k Pick) {
	p.end(k)
	p.wanting.put(k.Shard-1, true)
}

func (p *Picker) end(k Pick) {
	if k.Node == Upstream {
		p.upstream--
	}
}

func (p *Picker) choose(may func(n int) bool) (Pick, bool) {
	upstream := (len(p.nodes) == 0 || p.upstream < UpstreamAtOnce) && may(Upstream)
	p.draw.Shuffle(len(p.order), func(i, j int) { p.order[i], p.order[j] = p.order[j], p.order[i] })
	nodes := make([]int, 0, len(p.order))
	for _, n := range p.order {
		if may(n) {
			nodes = append(nodes, n)
		}
	}
	if pick, ok := p.chooseAsked(nodes, upstream); ok {
		return pick, true
	}
	if upstream {
		if pick, ok := p.chooseFresh(); ok {
			return pick, true
		}
	}
	for _, has := range []func(*node) set{(*node).holds, (*node).passesOn} {
		for _, n := range nodes {
			p.scratch.and(p.wanting, has(p.nodes[n]))
			if i := p.rarest(p.scratch); i >= 0 {
				return Pick{i + 1, n, AsPeer}, true
			}
		}
	}
	if upstream {
		return p.chooseAny()
	}
	return Pick{}, false
}

// chooseFresh finds what is to come from upstream before all that neighbours have: what is
// needed from there, or else is fresh.
func (p *Picker) chooseFresh() (Pick, bool) {
	for _, shard := range p.needed {
		if p.wanting.get(shard - 1) {
			return Pick{shard, Upstream, AsUpstream}, true
		}
	}
	if p.Reader {
		return Pick{}, false
	}
	p.scratch.and(p.wanting, p.fresh)
	i := p.scratch.first(nil)
	if len(p.nodes) > 0 {
		i = p.random(p.scratch)
	}
	return Pick{i + 1, Upstream, AsFresh}, i >= 0
}

// chooseAny finds what is to come from upstream as no neighbour has it: the first, but for
// a reader of what others have been sent, if there is any, for they can give it on.
func (p *Picker) chooseAny() (Pick, bool) {
	if p.Reader {
		p.scratch.and(p.wanting, p.sent)
		if i := p.scratch.first(nil); i >= 0 {
			return Pick{i + 1, Upstream, AsSpare}, true
		}
	}
	i := p.wanting.first(nil)
	return Pick{i + 1, Upstream, AsSpare}, i >= 0
}

// chooseAsked finds who is to bring what somebody waits for.
func (p *Picker) chooseAsked(nodes []int, upstream bool) (Pick, bool) {
	for _, shard := range p.asked {
		if !p.wanting.get(shard - 1) {
			continue
		}
		for _, has := range []func(*node) set{(*node).holds, (*node).passesOn} {
			for _, n := range nodes {
				if has(p.nodes[n]).get(shard - 1) {
					return Pick{shard, n, AsPeer}, true
				}
			}
		}
		if upstream {
			return Pick{shard, Upstream, AsUpstream}, true
		}
	}
	return Pick{}, false
}

// rarest returns the index of s that the fewest neighbours have, of the first ones, or
// -1 if there is none. Of those that are alike one is drawn.
func (p *Picker) rarest(s set) int {
	best, alike := -1, 0
	seen := 0
	s.first(func(i int) bool {
		switch {
		case best < 0 || p.has[i] < p.has[best]:
			best, alike = i, 1
		case p.has[i] == p.has[best]:
			if alike++; p.draw.IntN(alike) == 0 {
				best = i
			}
		}
		seen++
		return seen == sampled
	})
	return best
}

// random draws one of the first indices of s, or returns -1.
func (p *Picker) random(s set) int {
	picked, seen := -1, 0
	s.first(func(i int) bool {
		if seen++; p.draw.IntN(seen) == 0 {
			picked = i
		}
		return seen == drawn
	})
	return picked
}

// set is a set of indices.
type set []uint64

func newSet(n int) set { return make(set, (n+63)/64) }

func (s set) get(i int) bool { return s[i/64]>>(i%64)&1 == 1 }

func (s set) put(i int, in bool) {
	if in {
		s[i/64] |= 1 << (i % 64)
	} else {
		s[i/64] &^= 1 << (i % 64)
	}
}

// and makes s what is in both a and b.
func (s set) and(a, b set) {
	for i := range s {
		s[i] = a[i] & b[i]
	}
}

// first returns the first index in s that ok approves of, or -1. Without ok it is any.
func (s set) first(ok func(i int) bool) int {
	for w, word := range s {
		for ; word != 0; word &= word - 1 {
			if i := w*64 + bits.TrailingZeros64(word); ok == nil || ok(i) {
				return i
			}
		}
	}
	return -1
}
