package swarm

import (
	"math/bits"
	"math/rand/v2"
	"slices"
)

const (
	// together is the number of shards that nodes which know one another take from upstream at the
	// same time: one more than a server of ours has slots for them.
	together = 9

	// readerUpstream bounds that for a node that gives nothing back.
	readerUpstream = 2

	// sampled is the number of a peer's shards among which a node looks for the rarest, and
	// drawn the number of fresh shards of which it draws one, so that peers draw others. Both
	// count from the first missing shard, as the digest of the file is computed in order.
	sampled = 24
	drawn   = 64
)

// Upstream is the Node of a [Pick] from upstream.
const Upstream = -1

// A Pick is a shard to take next, and the node to take it from.
type Pick struct {
	Shard int // its number, from 1 on
	Node  int // a peer, or Upstream

	// As is the way to ask for it: [AsPeer] a peer, and one of the other ways Upstream.
	As string
}

// A Picker decides for one node and one version which shard to take next from which node.
// It is a plain value for one goroutine at a time: it never waits, and calls no node.
type Picker struct {
	// Reader is for a node that peers cannot reach. It takes no fresh shard, as upstream
	// would have to send that once more.
	Reader bool

	// Young is for a node that may not know its peers yet. It takes one shard at a time from upstream,
	// as the slots there are for all.
	Young bool

	// Far is for a node over a long way from its upstreams, where a request takes long before its first byte comes. It
	// takes twice as many shards from there at the same time.
	Far bool

	draw   *rand.Rand
	shards int

	missing  set   // not here, arriving or not
	wanting  set   // neither here nor arriving
	asked    []int // by readers of this node, in that order
	needed   []int // from upstream
	sent     set   // by upstream, to any node
	recent   set   // that upstream sent a moment ago, so a peer may be about to list them
	newest   set   // those of them that it sent since the last call of Age
	fresh    set   // no peer has it, and upstream has sent it to no node
	peers    map[int]*peer
	order    []int    // of peers, shuffled for each pick
	has      []uint16 // the number of peers that have shard i+1, or pass it on
	upstream int      // shards arriving from there
	scratch  set
}

// peer is the shards of one peer.
type peer struct {
	held, arriving set
	under          int  // shards that arrive from it
	deaf           bool // it does not answer
}

func (o *peer) holds() set    { return o.held }
func (o *peer) passesOn() set { return o.arriving }

// NewPicker returns a Picker for a version of that many shards, all missing.
func NewPicker(shards int, draw *rand.Rand) *Picker {
	p := &Picker{
		draw: draw, shards: shards, peers: make(map[int]*peer), has: make([]uint16, shards),
		missing: newSet(shards), wanting: newSet(shards), sent: newSet(shards), recent: newSet(shards),
		newest: newSet(shards), fresh: newSet(shards), scratch: newSet(shards),
	}
	for i := range shards {
		p.missing.put(i, true)
		p.wanting.put(i, true)
		p.fresh.put(i, true)
	}
	return p
}

// Join adds a peer without shards, under any number from 0 on.
func (p *Picker) Join(n int) {
	if p.peers[n] == nil {
		p.peers[n] = &peer{held: newSet(p.shards), arriving: newSet(p.shards)}
		p.order = append(p.order, n)
	}
}

// Leave removes a peer.
func (p *Picker) Leave(n int) {
	p.Note(n, Change{Missing, 1, p.shards})
	delete(p.peers, n)
	p.order = slices.DeleteFunc(p.order, func(o int) bool { return o == n })
}

// Note notes a change at a peer or at Upstream. At Upstream only the state Sent counts, and
// stays.
func (p *Picker) Note(n int, c Change) {
	o := p.peers[n]
	if o == nil && (n != Upstream || c.State != Sent) {
		return
	}
	for i := max(c.From-1, 0); i < min(c.To, p.shards); i++ {
		if n == Upstream {
			if !p.sent.get(i) {
				p.recent.put(i, true)
				p.newest.put(i, true)
			}
			p.sent.put(i, true)
			p.fresh.put(i, false)
			continue
		}
		o.deaf = o.deaf && c.State == Missing
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

// Deaf notes that a peer does not answer. Nothing is kept waiting for what it may list, until it
// lists a shard.
func (p *Picker) Deaf(n int) {
	if o := p.peers[n]; o != nil {
		o.deaf = true
	}
}

// isAlone reports whether no peer answers.
func (p *Picker) isAlone() bool { return p.answering() == 0 }

// answering returns how many peers answer.
func (p *Picker) answering() (n int) {
	for _, o := range p.peers {
		if !o.deaf {
			n++
		}
	}
	return n
}

// UpstreamAtOnce returns how many shards the node takes from upstream at the same time: its part of those that
// nodes take together, so that each has as much to pass on as others, and at least one. A node without peers takes
// all.
func (p *Picker) UpstreamAtOnce() int {
	n := p.answering()
	switch {
	case p.Young:
		return 1
	case n == 0:
		return p.shards
	}
	all := together
	if p.Far {
		all *= 2
	}
	part := max(1, all/(n+1))
	if p.Reader {
		part = min(part, readerUpstream)
	}
	return part
}

// Age is called four times a second, and reports whether other shards may be picked now: those
// that upstream had sent to a node when it was called last, and that no peer has listed since.
func (p *Picker) Age() bool {
	more := false
	for w := range p.recent {
		more = more || p.recent[w] != p.newest[w]
		p.recent[w], p.newest[w] = p.newest[w], 0
	}
	return more
}

// Ask has a shard picked before others, since a reader of this node waits for it.
func (p *Picker) Ask(shard int) { p.asked = p.add(p.asked, shard) }

// Need has a shard picked from upstream next, since peers failed to deliver it for too long.
func (p *Picker) Need(shard int) { p.needed = p.add(p.needed, shard) }

// add adds a missing shard to list, once.
func (p *Picker) add(list []int, shard int) []int {
	if !p.missing.get(shard-1) || slices.Contains(list, shard) {
		return list
	}
	return append(list, shard)
}

// Wanting reports whether any shard is neither here nor arriving.
func (p *Picker) Wanting() bool { return p.wanting.first(nil) >= 0 }

// Elsewhere reports whether a peer lists any shard that is missing here.
func (p *Picker) Elsewhere() bool {
	return p.missing.first(func(i int) bool { return p.has[i] > 0 }) >= 0
}

// Next returns the shard to take next, or false if there is none. It picks from the nodes,
// peers and Upstream, for which may returns true. The shard counts as arriving until
// [Picker.Done] or [Picker.Drop].
func (p *Picker) Next(may func(n int) bool) (Pick, bool) {
	pick, ok := p.choose(may)
	if ok {
		p.wanting.put(pick.Shard-1, false)
		p.count(pick, 1)
	}
	return pick, ok
}

// Lost notes that a shard which was here is wrong.
func (p *Picker) Lost(shard int) {
	p.missing.put(shard-1, true)
	p.wanting.put(shard-1, true)
}

// Under returns how many shards are arriving from the peer n, and 0 if it is none.
func (p *Picker) Under(n int) int {
	if o := p.peers[n]; o != nil {
		return o.under
	}
	return 0
}

// Done notes that a picked shard is here.
func (p *Picker) Done(k Pick) {
	p.count(k, -1)
	p.missing.put(k.Shard-1, false)
	is := func(shard int) bool { return shard == k.Shard }
	p.asked, p.needed = slices.DeleteFunc(p.asked, is), slices.DeleteFunc(p.needed, is)
}

// Drop notes that a picked shard did not arrive, or not all of it.
func (p *Picker) Drop(k Pick) {
	p.count(k, -1)
	p.wanting.put(k.Shard-1, true)
}

// count adds n to the shards that arrive from the node of k.
func (p *Picker) count(k Pick, n int) {
	if k.Node == Upstream {
		p.upstream += n
	} else if o := p.peers[k.Node]; o != nil {
		o.under += n
	}
}

func (p *Picker) choose(may func(n int) bool) (Pick, bool) {
	upstream := p.upstream < p.UpstreamAtOnce() && may(Upstream)
	p.draw.Shuffle(len(p.order), func(i, j int) { p.order[i], p.order[j] = p.order[j], p.order[i] })
	peers := make([]int, 0, len(p.order))
	for _, n := range p.order {
		if may(n) {
			peers = append(peers, n)
		}
	}
	slices.SortStableFunc(peers, func(a, b int) int { return p.peers[a].under - p.peers[b].under })
	if pick, ok := p.chooseAsked(peers, upstream); ok {
		return pick, true
	}
	if upstream {
		if pick, ok := p.chooseFresh(); ok {
			return pick, true
		}
	}
	for _, has := range []func(*peer) set{(*peer).holds, (*peer).passesOn} {
		for _, n := range peers {
			p.scratch.and(p.wanting, has(p.peers[n]))
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

// chooseFresh picks from upstream before peers get a turn: a needed shard, or else a fresh
// one.
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
	if !p.isAlone() {
		i = p.random(p.scratch)
	}
	return Pick{i + 1, Upstream, AsFresh}, i >= 0
}

// chooseAny picks from upstream the first shard, which no peer has, nor is about to list: a small
// delta would come from upstream more than once otherwise. A reader prefers shards
// that upstream has sent before, and leaves the others to nodes that can pass them on.
func (p *Picker) chooseAny() (Pick, bool) {
	alone := p.isAlone()
	may := func(i int) bool { return alone || !p.recent.get(i) }
	if p.Reader {
		p.scratch.and(p.wanting, p.sent)
		if p.scratch.first(nil) >= 0 {
			i := p.scratch.first(may)
			return Pick{i + 1, Upstream, AsSpare}, i >= 0
		}
	}
	i := p.wanting.first(may)
	return Pick{i + 1, Upstream, AsSpare}, i >= 0
}

// chooseAsked picks a shard for which a reader of this node waits.
func (p *Picker) chooseAsked(peers []int, upstream bool) (Pick, bool) {
	for _, shard := range p.asked {
		if !p.wanting.get(shard - 1) {
			continue
		}
		for _, has := range []func(*peer) set{(*peer).holds, (*peer).passesOn} {
			for _, n := range peers {
				if has(p.peers[n]).get(shard - 1) {
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

// rarest returns, of the first indices of s, the one that the fewest peers have, or -1 if s
// is empty. Of several it draws one.
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

// random draws one of the first indices of s, or returns -1 if s is empty.
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

// and makes s the intersection of a and b.
func (s set) and(a, b set) {
	for i := range s {
		s[i] = a[i] & b[i]
	}
}

// first returns the first index in s for which ok returns true, or -1. A nil ok accepts any.
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
