package swarm_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/swarm"
)

// picking returns a picker for a version of that many shards, with peers 0, 1 and so on that
// list their shards by signs.
func picking(shards int, peers ...string) *swarm.Picker {
	p := swarm.NewPicker(shards, rand.New(rand.NewPCG(1, 1)))
	for n, signs := range peers {
		p.Join(n)
		note(p, n, signs)
	}
	return p
}

// note notes the shards of node n by signs.
func note(p *swarm.Picker, n int, signs string) {
	for i, sign := range signs {
		p.Note(n, swarm.Change{State: swarm.State(sign), From: i + 1, To: i + 1})
	}
}

func anyNode(int) bool { return true }

func but(not int) func(int) bool { return func(n int) bool { return n != not } }

// fresh returns a pick of a fresh shard from upstream, spare one of any shard from there, and
// from one from a peer.
func fresh(shard int) swarm.Pick {
	return swarm.Pick{Shard: shard, Node: swarm.Upstream, As: swarm.AsFresh}
}

func spare(shard int) swarm.Pick {
	return swarm.Pick{Shard: shard, Node: swarm.Upstream, As: swarm.AsSpare}
}

func from(peer, shard int) swarm.Pick { return swarm.Pick{Shard: shard, Node: peer, As: swarm.AsPeer} }

// pick returns the next pick, which must exist.
func pick(t *testing.T, p *swarm.Picker, may func(int) bool) swarm.Pick {
	t.Helper()
	k, ok := p.Next(may)
	require.True(t, ok, "nothing to take")
	return k
}

func assertNothing(t *testing.T, p *swarm.Picker, may func(int) bool) {
	t.Helper()
	k, ok := p.Next(may)
	assert.False(t, ok, "%v", k)
}

func TestTwoFreshShardsComeFromUpstream(t *testing.T) {
	p := picking(4, "+---")
	note(p, swarm.Upstream, "--*-")
	a, b := pick(t, p, anyNode), pick(t, p, anyNode)
	assert.ElementsMatch(t, []swarm.Pick{fresh(2), fresh(4)}, []swarm.Pick{a, b})
	assert.Equal(t, from(0, 1), pick(t, p, anyNode), "then the shards of peers")
	assertNothing(t, p, anyNode)
	p.Done(a)
	aged(p)
	assert.Equal(t, spare(3), pick(t, p, anyNode), "then shards that upstream has sent to others")
}

func TestNodesTakeTheirPartOfNineShardsFromUpstream(t *testing.T) {
	const shards = 20
	peers := func(n int) *swarm.Picker { return picking(shards, make([]string, n)...) }
	for n, want := range map[int]int{0: shards, 1: 4, 2: 3, 3: 2, 4: 1, 7: 1, 16: 1} {
		p := peers(n)
		assert.Equal(t, want, p.UpstreamAtOnce(), "%d peers", n)
		for range want {
			assert.Equal(t, swarm.Upstream, pick(t, p, anyNode).Node)
		}
		assertNothing(t, p, anyNode)
		p.Young = true
		assert.Equal(t, 1, p.UpstreamAtOnce(), "there may be more peers")
	}
	reader := peers(1)
	reader.Reader = true
	assert.Equal(t, 2, reader.UpstreamAtOnce())
	left := peers(4)
	left.Deaf(1)
	left.Deaf(3)
	assert.Equal(t, 3, left.UpstreamAtOnce(), "two do not answer")
}

// aged is half a second later.
func aged(p *swarm.Picker) {
	p.Age()
	p.Age()
}

func TestAShardThatUpstreamHasSentIsNotFresh(t *testing.T) {
	p := picking(2, "--")
	note(p, swarm.Upstream, "*")
	assert.Equal(t, fresh(2), pick(t, p, anyNode))
	note(p, swarm.Upstream, "-") // as after its restart
	aged(p)
	assert.Equal(t, spare(1), pick(t, p, anyNode))
}

func TestPeersHaveAMomentToListAShardThatUpstreamHasSent(t *testing.T) {
	p := picking(2, "--")
	note(p, swarm.Upstream, "*")
	k := pick(t, p, anyNode)
	require.Equal(t, fresh(2), k)
	p.Done(k)
	assertNothing(t, p, anyNode)
	assert.False(t, p.Age(), "it may just have been sent")
	note(p, swarm.Upstream, "**")
	assertNothing(t, p, anyNode)
	assert.True(t, p.Age())
	assert.Equal(t, spare(1), pick(t, p, anyNode), "no peer lists it")
	assert.True(t, p.Age(), "the second one, too")
	assert.False(t, p.Age())

	alone := picking(1)
	note(alone, swarm.Upstream, "*")
	assert.Equal(t, spare(1), pick(t, alone, anyNode), "there is none that could")
	left := picking(1, "-")
	left.Deaf(0)
	note(left, swarm.Upstream, "*")
	assert.Equal(t, spare(1), pick(t, left, anyNode), "the only one does not answer")
	back := picking(2, "--")
	back.Deaf(0)
	note(back, 0, "+")
	note(back, swarm.Upstream, "**")
	assert.Equal(t, from(0, 1), pick(t, back, anyNode))
	assertNothing(t, back, anyNode)
	reader := picking(1, "-")
	reader.Reader = true
	note(reader, swarm.Upstream, "*")
	assertNothing(t, reader, anyNode)
	aged(reader)
	assert.Equal(t, spare(1), pick(t, reader, anyNode))
}

func TestAShardOfAPeerIsNotFresh(t *testing.T) {
	for _, signs := range []string{"+-", "~-", "*-"} {
		p := picking(2, signs)
		assert.Equal(t, fresh(2), pick(t, p, anyNode), signs)
		assert.Equal(t, from(0, 1), pick(t, p, anyNode), signs)
	}
}

func TestTheRarestShardOfAPeerIsTaken(t *testing.T) {
	p := picking(3, "+++", "+-+", "+--")
	assert.Equal(t, from(0, 2), pick(t, p, func(n int) bool { return n == 0 }))
	assert.Equal(t, from(0, 3), pick(t, p, func(n int) bool { return n == 0 }))
	p.Drop(swarm.Pick{Shard: 2, Node: 0})
	p.Note(0, swarm.Change{State: swarm.Missing, From: 1, To: 3})
	assert.Equal(t, from(1, 1), pick(t, p, func(n int) bool { return n == 1 }))
}

func TestHeldShardsAreTakenBeforeArrivingOnes(t *testing.T) {
	p := picking(2, "~-", "-+")
	may := but(swarm.Upstream)
	assert.Equal(t, from(1, 2), pick(t, p, may))
	assert.Equal(t, from(0, 1), pick(t, p, may))
}

func TestShardsThatReadersWaitForComeFirst(t *testing.T) {
	p := picking(5, "++~-+")
	p.Ask(3)
	p.Ask(4)
	p.Ask(5)
	may := but(swarm.Upstream)
	assert.Equal(t, from(0, 3), pick(t, p, may))
	assert.Equal(t, from(0, 5), pick(t, p, may), "no node that may be asked has 4")
	four := swarm.Pick{Shard: 4, Node: swarm.Upstream, As: swarm.AsUpstream}
	assert.Equal(t, four, pick(t, p, anyNode))
	p.Drop(four)
	assert.Equal(t, four, pick(t, p, anyNode), "the reader still waits")
	p.Done(four)
	assert.NotEqual(t, 4, pick(t, p, anyNode).Shard)
}

func TestANodeWithoutPeersTakesAllShardsFromUpstream(t *testing.T) {
	p := picking(50)
	for i := range 50 {
		assert.Equal(t, fresh(i+1), pick(t, p, anyNode), "in ascending order, as they arrive there")
	}
	assertNothing(t, p, anyNode)
}

func TestOnlyNodesThatMayBeAskedAreAsked(t *testing.T) {
	p := picking(2, "++", "++")
	assertNothing(t, p, func(int) bool { return false })
	for range 2 {
		assert.Equal(t, 1, pick(t, p, func(n int) bool { return n == 1 }).Node)
	}
}

func TestTheShardsOfAPeerLeaveWithIt(t *testing.T) {
	p := picking(2, "+-", "++")
	p.Leave(1)
	may := but(swarm.Upstream)
	assert.Equal(t, from(0, 1), pick(t, p, may))
	assertNothing(t, p, may)
	note(p, 1, "++") // its last lines may come late
	assertNothing(t, p, may)
	assert.Equal(t, fresh(2), pick(t, p, anyNode), "no peer has it any more")
}

func TestDroppedShardsAreTakenAgainAndDoneOnesAreNot(t *testing.T) {
	p := picking(1, "+")
	k := pick(t, p, but(swarm.Upstream))
	assertNothing(t, p, anyNode)
	p.Drop(k)
	assert.Equal(t, k, pick(t, p, but(swarm.Upstream)))
	p.Done(k)
	assertNothing(t, p, anyNode)
	assert.False(t, p.Elsewhere())
	p.Lost(1)
	assert.True(t, p.Elsewhere(), "a peer has it")
	assert.Equal(t, k, pick(t, p, but(swarm.Upstream)), "it was wrong")
}

func TestThePickerSurvivesLies(t *testing.T) {
	p := picking(3, "+++")
	p.Note(0, swarm.Change{State: swarm.Held, From: -5, To: 99})
	p.Note(7, swarm.Change{State: swarm.Held, From: 1, To: 3}) // no peer
	for range 3 {
		note(p, 0, "+++")
		note(p, 0, "---")
	}
	assertNothing(t, p, but(swarm.Upstream))
	assert.Equal(t, swarm.AsFresh, pick(t, p, anyNode).As, "no peer has it")
}

func TestNeededShardsComeFromUpstreamNext(t *testing.T) {
	p := picking(4, "--++")
	p.Need(4)
	p.Need(4)
	four := swarm.Pick{Shard: 4, Node: swarm.Upstream, As: swarm.AsUpstream}
	assert.Equal(t, four, pick(t, p, anyNode))
	p.Drop(four)
	for range 2 {
		assert.Zero(t, pick(t, p, but(swarm.Upstream)).Node, "peers get a turn while upstream may not be asked")
	}
	p.Done(four)
	p.Need(4)
	p.Ask(4)
	assert.Equal(t, swarm.AsFresh, pick(t, p, anyNode).As)
}

func TestAReaderTakesNothingFresh(t *testing.T) {
	p := picking(5, "----+")
	p.Reader = true
	note(p, swarm.Upstream, "--**-")
	assert.Equal(t, from(0, 5), pick(t, p, anyNode))
	aged(p)
	assert.Equal(t, spare(3), pick(t, p, anyNode), "others can pass it on")
	assert.Equal(t, spare(4), pick(t, p, anyNode))
	assertNothing(t, p, anyNode)
	p.Done(swarm.Pick{Shard: 3, Node: swarm.Upstream})
	assert.Equal(t, spare(1), pick(t, p, anyNode), "no other node may come for it")
}

func TestElsewhereCountsMissingShardsOfPeers(t *testing.T) {
	p := picking(2, "~-")
	assert.True(t, p.Elsewhere())
	k := pick(t, p, but(swarm.Upstream))
	assert.True(t, p.Elsewhere(), "it may yet fail")
	p.Done(k)
	assert.False(t, p.Elsewhere())
}

func TestNextAsksThePeerFromWhichTheFewestShardsArrive(t *testing.T) {
	p := swarm.NewPicker(30, rand.New(rand.NewPCG(1, 2)))
	for n := range 3 {
		p.Join(n)
		p.Note(n, swarm.Change{State: swarm.Held, From: 1, To: 30})
	}
	peers := func(n int) bool { return n != swarm.Upstream }
	arriving := make(map[int]int)
	var last swarm.Pick
	for range 12 {
		var ok bool
		last, ok = p.Next(peers)
		require.True(t, ok)
		arriving[last.Node]++
	}
	assert.Equal(t, map[int]int{0: 4, 1: 4, 2: 4}, arriving)

	p.Done(last)
	next, ok := p.Next(peers)
	require.True(t, ok)
	assert.Equal(t, last.Node, next.Node, "one that has delivered")
}
