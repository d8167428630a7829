package swarm_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/swarm"
)

// picking returns a picker of so many shards, with neighbours 0, 1 and so on of which each
// has what its signs say.
func picking(shards int, neighbours ...string) *swarm.Picker {
	p := swarm.NewPicker(shards, rand.New(rand.NewPCG(1, 1)))
	for n, signs := range neighbours {
		p.Join(n)
		tell(p, n, signs)
	}
	return p
}

func tell(p *swarm.Picker, n int, signs string) {
	for i, sign := range signs {
		p.Told(n, swarm.Change{State: swarm.State(sign), From: i + 1, To: i + 1})
	}
}

func anyone(int) bool { return true }

func but(not int) func(int) bool { return func(n int) bool { return n != not } }

// pick is the next pick, of which there must be one.
func pick(t *testing.T, p *swarm.Picker, may func(int) bool) swarm.Pick {
	t.Helper()
	k, ok := p.Next(may)
	require.True(t, ok, "there is something to take")
	return k
}

func assertNothing(t *testing.T, p *swarm.Picker, may func(int) bool) {
	t.Helper()
	k, ok := p.Next(may)
	assert.False(t, ok, "%v", k)
}

func TestTwoShardsThatNobodyHasComeFromUpstream(t *testing.T) {
	p := picking(4, "+---")
	tell(p, swarm.Upstream, "--*-")
	a, b := pick(t, p, anyone), pick(t, p, anyone)
	assert.ElementsMatch(t, []swarm.Pick{{2, swarm.Upstream, swarm.AsFresh}, {4, swarm.Upstream, swarm.AsFresh}},
		[]swarm.Pick{a, b})
	assert.Equal(t, swarm.Pick{1, 0, swarm.AsPeer}, pick(t, p, anyone), "then what neighbours have")
	assertNothing(t, p, anyone)
	p.Done(a)
	assert.Equal(t, swarm.Pick{3, swarm.Upstream, swarm.AsSpare}, pick(t, p, anyone),
		"what was sent to another node comes last")
}

func TestWhatWasSentToSomebodyIsNotFresh(t *testing.T) {
	p := picking(2, "--")
	tell(p, swarm.Upstream, "*")
	assert.Equal(t, swarm.Pick{2, swarm.Upstream, swarm.AsFresh}, pick(t, p, anyone))
	tell(p, swarm.Upstream, "-") // as after a restart of it: what was sent was sent
	assert.Equal(t, swarm.Pick{1, swarm.Upstream, swarm.AsSpare}, pick(t, p, anyone))
}

func TestWhatANeighbourHasIsNotFresh(t *testing.T) {
	for _, signs := range []string{"+-", "~-", "*-"} {
		p := picking(2, signs)
		assert.Equal(t, swarm.Pick{2, swarm.Upstream, swarm.AsFresh}, pick(t, p, anyone), signs)
		assert.Equal(t, swarm.Pick{1, 0, swarm.AsPeer}, pick(t, p, anyone), signs)
	}
}

func TestTheRarestShardOfANeighbourIsTaken(t *testing.T) {
	p := picking(3, "+++", "+-+", "+--")
	assert.Equal(t, swarm.Pick{2, 0, swarm.AsPeer}, pick(t, p, func(n int) bool { return n == 0 }))
	assert.Equal(t, swarm.Pick{3, 0, swarm.AsPeer}, pick(t, p, func(n int) bool { return n == 0 }))
	p.Drop(swarm.Pick{Shard: 2, Node: 0})
	p.Told(0, swarm.Change{State: swarm.Missing, From: 1, To: 3})
	assert.Equal(t, swarm.Pick{1, 1, swarm.AsPeer}, pick(t, p, func(n int) bool { return n == 1 }))
}

func TestWhatArrivesAtANeighbourIsTakenAfterWhatOneHolds(t *testing.T) {
	p := picking(2, "~-", "-+")
	may := but(swarm.Upstream)
	assert.Equal(t, swarm.Pick{2, 1, swarm.AsPeer}, pick(t, p, may))
	assert.Equal(t, swarm.Pick{1, 0, swarm.AsPeer}, pick(t, p, may))
}

func TestWhatSomebodyWaitsForComesFirst(t *testing.T) {
	p := picking(5, "++~-+")
	p.Ask(3)
	p.Ask(4)
	p.Ask(5)
	may := but(swarm.Upstream)
	assert.Equal(t, swarm.Pick{3, 0, swarm.AsPeer}, pick(t, p, may))
	assert.Equal(t, swarm.Pick{5, 0, swarm.AsPeer}, pick(t, p, may), "nobody who may be asked has 4")
	four := swarm.Pick{Shard: 4, Node: swarm.Upstream, As: swarm.AsUpstream}
	assert.Equal(t, four, pick(t, p, anyone))
	p.Drop(four)
	assert.Equal(t, four, pick(t, p, anyone), "who waited waits still")
	p.Done(four)
	assert.NotEqual(t, 4, pick(t, p, anyone).Shard)
}

func TestANodeWithoutNeighboursTakesAllFromUpstream(t *testing.T) {
	p := picking(50)
	for i := range 50 {
		assert.Equal(t, swarm.Pick{i + 1, swarm.Upstream, swarm.AsFresh}, pick(t, p, anyone),
			"in their order, as they arrive there")
	}
	assertNothing(t, p, anyone)
}

func TestNobodyIsAskedWhoMayNotBe(t *testing.T) {
	p := picking(2, "++", "++")
	assertNothing(t, p, func(int) bool { return false })
	for range 2 {
		assert.Equal(t, 1, pick(t, p, func(n int) bool { return n == 1 }).Node)
	}
}

func TestWhatANeighbourHadGoesWithIt(t *testing.T) {
	p := picking(2, "+-", "++")
	p.Leave(1)
	may := but(swarm.Upstream)
	assert.Equal(t, swarm.Pick{1, 0, swarm.AsPeer}, pick(t, p, may))
	assertNothing(t, p, may)
	tell(p, 1, "++") // it may say more before it knows
	assertNothing(t, p, may)
	assert.Equal(t, swarm.Pick{2, swarm.Upstream, swarm.AsFresh}, pick(t, p, anyone), "nobody has it any more")
}

func TestWhatWasDroppedIsTakenAgainAndWhatIsDoneIsNot(t *testing.T) {
	p := picking(1, "+")
	k := pick(t, p, but(swarm.Upstream))
	assertNothing(t, p, anyone)
	p.Drop(k)
	assert.Equal(t, k, pick(t, p, but(swarm.Upstream)))
	p.Done(k)
	assertNothing(t, p, anyone)
	assert.False(t, p.Elsewhere())
	p.Lost(1)
	assert.True(t, p.Elsewhere(), "a neighbour has it")
	assert.Equal(t, k, pick(t, p, but(swarm.Upstream)), "it was wrong")
}

// Neighbours tell what they like.
func TestLiesDoNotMisleadThePicker(t *testing.T) {
	p := picking(3, "+++")
	p.Told(0, swarm.Change{State: swarm.Held, From: -5, To: 99})
	p.Told(7, swarm.Change{State: swarm.Held, From: 1, To: 3}) // who is none
	for range 3 {
		tell(p, 0, "+++")
		tell(p, 0, "---")
	}
	assertNothing(t, p, but(swarm.Upstream))
	assert.Equal(t, swarm.AsFresh, pick(t, p, anyone).As, "nobody has it")
}

func TestWhatIsNeededComesFromUpstreamNext(t *testing.T) {
	p := picking(4, "--++")
	p.Need(4)
	p.Need(4)
	four := swarm.Pick{Shard: 4, Node: swarm.Upstream, As: swarm.AsUpstream}
	assert.Equal(t, four, pick(t, p, anyone))
	p.Drop(four)
	for range 2 {
		assert.Zero(t, pick(t, p, but(swarm.Upstream)).Node, "it is left to upstream only if that may be asked")
	}
	p.Done(four)
	p.Need(4)
	p.Ask(4)
	assert.Equal(t, swarm.AsFresh, pick(t, p, anyone).As)
}

func TestAReaderTakesNothingFresh(t *testing.T) {
	p := picking(5, "----+")
	p.Reader = true
	tell(p, swarm.Upstream, "--**-")
	assert.Equal(t, swarm.Pick{Shard: 5, Node: 0, As: swarm.AsPeer}, pick(t, p, anyone))
	assert.Equal(t, swarm.Pick{Shard: 3, Node: swarm.Upstream, As: swarm.AsSpare}, pick(t, p, anyone),
		"others can give that on")
	assert.Equal(t, swarm.Pick{Shard: 4, Node: swarm.Upstream, As: swarm.AsSpare}, pick(t, p, anyone))
	assertNothing(t, p, anyone)
	p.Done(swarm.Pick{Shard: 3, Node: swarm.Upstream})
	assert.Equal(t, swarm.Pick{Shard: 1, Node: swarm.Upstream, As: swarm.AsSpare}, pick(t, p, anyone),
		"nobody else may come to fetch it")
}

func TestPickerKnowsWhatThereIsElsewhere(t *testing.T) {
	p := picking(2, "~-")
	assert.True(t, p.Elsewhere())
	k := pick(t, p, but(swarm.Upstream))
	assert.True(t, p.Elsewhere(), "it may yet fail")
	p.Done(k)
	assert.False(t, p.Elsewhere())
}
