package swarm_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/swarm"
)

// The simulation is of a swarm in which bytes flow like water: a flow between two nodes gets
// its share of both links, and the smaller one decides.

const (
	step  = 0.005 // seconds
	queue = 2     // requests that wait for a slot
)

// spareAfter is the time without a refused request after which a server has time to spare.
const spareAfter = 1 // seconds

var listEvery, slots, workers = 0.1, 8, 10

// simulation is one swarm.
type simulation struct {
	nodes  int
	shards int
	speed  func(node int) float64 // of both links, in shards a second; node -1 is the origin
	dies   func(node int) float64 // when, or 0

	// middles is how many of the nodes are middles of the origin. Each of the others is a client
	// of one of them. Zero is for clients of the origin.
	middles int

	// heard is to how many nodes the origin lists its shards; zero means to all.
	heard int

	// first returns the nodes that the origin lists to each node at first; nil lists any. Later
	// requests list any.
	first func(draw *rand.Rand) []int
}

// member is a node, or the origin.
type member struct {
	number  int
	speed   float64
	from    *member // its upstream
	picker  *swarm.Picker
	peers   []int
	have    []swarm.State
	sent    []bool        // to a node that asked m as its upstream
	listed  []swarm.State // in its last line
	got     []float64     // of each shard
	bring   []*flow
	sends   []*flow
	queued  []*flow
	pausing []float64 // workers, until when
	busy    map[int]float64
	refused int     // by the origin, in a row
	full    float64 // when it last refused a request for a shard that is not spare
	done    float64 // when it had all shards
	gone    bool

	up, down *link
}

// flow is an arriving shard.
type flow struct {
	pick     swarm.Pick
	from, to *member
	relayed  bool
	links    []*link
	rate     float64 // in shards a second
}

// outcome is the result of a simulation.
type outcome struct {
	times  []float64 // of the nodes that have all, in seconds
	origin float64   // files that the origin has sent
}

func (s simulation) run(seed uint64) (o outcome) {
	draw := rand.New(rand.NewPCG(seed, 1))
	origin := &member{
		number: swarm.Upstream, speed: s.speed(-1), have: make([]swarm.State, s.shards), got: make([]float64, s.shards),
		sent: make([]bool, s.shards),
	}
	for i := range s.shards {
		origin.have[i], origin.got[i] = swarm.Held, 1
	}
	all := []*member{origin}
	for i := range s.nodes {
		m := &member{
			number: i, from: all[s.upstream(i)+1], speed: s.speed(i), picker: swarm.NewPicker(s.shards, draw),
			got: make([]float64, s.shards), sent: make([]bool, s.shards),
			have: slices.Repeat([]swarm.State{swarm.Missing}, s.shards),
			busy: make(map[int]float64), pausing: make([]float64, workers),
		}
		first := draw.Perm(s.nodes)
		if s.first != nil {
			first = s.first(draw)
		}
		m.meet(s.siblings(i, first))
		all = append(all, m)
	}
	by := func(n int) *member { return all[n+1] }
	// Seconds: when nodes list their shards next, ask for peers, and look at what upstream has sent.
	lines, asked, aged := 0.0, 0.4, 0.25
	for now := 0.0; now < 100*float64(s.shards); now += step {
		left := 0
		for _, m := range all[1:] {
			if s.dies != nil && !m.gone && s.dies(m.number) > 0 && now >= s.dies(m.number) {
				m.gone = true
				for _, f := range slices.Concat(m.bring, m.sends, m.queued) {
					f.end(now, draw)
				}
				for _, other := range all[1:] {
					other.picker.Leave(m.number)
				}
			}
			if !m.gone && m.done == 0 {
				left++
			}
		}
		if left == 0 {
			break
		}
		if s.first != nil && now >= asked {
			asked += min(asked, 5)
			for _, m := range all[1:] {
				for _, n := range m.meet(s.siblings(m.number, draw.Perm(s.nodes))) {
					for i, state := range by(n).listed {
						m.picker.Note(n, swarm.Change{State: state, From: i + 1, To: i + 1})
					}
				}
			}
		}
		if now >= aged {
			aged += 0.25
			for _, m := range all[1:] {
				m.picker.Age()
			}
		}
		if now >= lines {
			lines += listEvery
			for _, m := range all {
				m.list(s.followers(m, all))
			}
		}
		for _, i := range draw.Perm(s.nodes) {
			m := by(i)
			m.hearReaders()
			for !m.gone && m.done == 0 && len(m.bring)+m.paused(now) < workers {
				pick, ok := m.picker.Next(func(n int) bool { return m.busy[n] <= now })
				if !ok {
					break
				}
				from := m.from
				if pick.Node != swarm.Upstream {
					from = by(pick.Node)
				}
				m.ask(from, pick, now, draw)
			}
		}
		share(all)
		for _, m := range all {
			for _, f := range m.sends {
				i := f.pick.Shard - 1
				f.to.got[i] = min(f.to.got[i]+f.rate*step, max(m.got[i], f.to.got[i]))
				if m == origin {
					o.origin += f.rate * step / float64(s.shards)
				}
			}
		}
		for _, m := range all[1:] {
			for _, f := range slices.Clone(m.bring) {
				switch i := f.pick.Shard - 1; {
				case m.got[i] >= 1-1e-9:
					f.leave()
					m.have[i] = swarm.Held
					m.picker.Done(f.pick)
					if !slices.ContainsFunc(m.have, func(s swarm.State) bool { return s != swarm.Held }) {
						m.done = now + step
					}
				case f.relayed && f.pick.Node != swarm.Upstream && f.from.have[i] == swarm.Missing:
					f.end(now, draw)
				}
			}
		}
	}
	for _, m := range all[1:] {
		if m.done > 0 {
			o.times = append(o.times, m.done)
		}
	}
	slices.Sort(o.times)
	return o
}

// upstream returns the number of a node's upstream.
func (s simulation) upstream(node int) int {
	if node < s.middles || s.middles == 0 {
		return swarm.Upstream
	}
	return node % s.middles
}

// siblings returns those of nodes that have the upstream of a node.
func (s simulation) siblings(node int, nodes []int) []int {
	return slices.DeleteFunc(nodes, func(n int) bool { return s.upstream(n) != s.upstream(node) })
}

// followers returns the nodes to which m lists its shards.
func (s simulation) followers(m *member, all []*member) (followers []*member) {
	for _, o := range all[1:] {
		hears := o.from == m && (s.heard == 0 || o.number < s.heard)
		if o != m && !m.gone && (hears || slices.Contains(o.peers, m.number)) {
			followers = append(followers, o)
		}
	}
	return followers
}

// list lists to followers what has changed at m.
func (m *member) list(followers []*member) {
	before := m.listed
	m.listed = slices.Clone(m.have)
	for i, state := range m.have {
		if m.sent[i] && state == swarm.Held {
			m.listed[i] = swarm.Sent
		}
		if before != nil && before[i] == m.listed[i] {
			continue
		}
		for _, o := range followers {
			from := m.number
			if o.from == m {
				from = swarm.Upstream
			}
			o.picker.Note(from, swarm.Change{State: m.listed[i], From: i + 1, To: i + 1})
		}
	}
}

// hearReaders has m bring next the shards for which its readers wait.
func (m *member) hearReaders() {
	for _, f := range m.sends {
		if i := f.pick.Shard; f.pick.Node == swarm.Upstream && m.have[i-1] == swarm.Missing {
			m.picker.Ask(i)
		}
	}
}

// meet gives m the first 16 of others as an upstream lists them, and returns its new peers.
func (m *member) meet(others []int) (joined []int) {
	others = slices.DeleteFunc(others, func(n int) bool { return n == m.number })
	others = others[:min(len(others), swarm.MaxPeers)]
	before := slices.Clone(m.peers)
	m.peers = slices.Clone(swarm.Stay(m.peers, len(others)))
	for _, n := range others {
		if len(m.peers) < swarm.MaxPeers && !slices.Contains(m.peers, n) {
			m.peers = append(m.peers, n)
		}
	}
	for _, n := range before {
		if !slices.Contains(m.peers, n) {
			m.picker.Leave(n)
		}
	}
	for _, n := range m.peers {
		if !slices.Contains(before, n) {
			m.picker.Join(n)
			joined = append(joined, n)
		}
	}
	return joined
}

func (m *member) paused(now float64) (n int) {
	for _, until := range m.pausing {
		if until > now {
			n++
		}
	}
	return n
}

// ask has m ask for its pick.
func (m *member) ask(from *member, pick swarm.Pick, now float64, draw *rand.Rand) {
	i := pick.Shard - 1
	f := &flow{pick: pick, from: from, to: m, relayed: from.have[i] != swarm.Held}
	m.bring = append(m.bring, f)
	switch {
	case pick.As == swarm.AsSpare && (len(from.sends) == slots || now < from.full+spareAfter):
		f.end(now, draw)
	case pick.As == swarm.AsFresh && from.sent[i]:
		f.end(now, draw)
		m.picker.Note(swarm.Upstream, swarm.Change{State: swarm.Sent, From: pick.Shard, To: pick.Shard})
		m.busy[swarm.Upstream] = now + step
	case pick.Node != swarm.Upstream && from.have[i] == swarm.Missing || from.gone:
		f.end(now, draw)
	case len(from.sends) < slots:
		f.start()
	case len(from.queued) < queue:
		from.full = now
		from.queued = append(from.queued, f)
	default:
		from.full = now
		f.end(now, draw)
	}
}

func (f *flow) start() {
	i := f.pick.Shard - 1
	f.from.sends = append(f.from.sends, f)
	if f.pick.Node == swarm.Upstream {
		f.to.refused = 0
		f.from.sent[i] = true
	}
	if !f.relayed {
		f.to.have[i] = swarm.Arriving
	}
}

// end ends f before its shard has arrived.
func (f *flow) end(now float64, draw *rand.Rand) {
	f.leave()
	f.to.have[f.pick.Shard-1] = swarm.Missing
	f.to.picker.Drop(f.pick)
	n := f.pick.Node
	times := 0
	if n == swarm.Upstream {
		times = f.to.refused
		f.to.refused++
	}
	f.to.busy[n] = now + (0.03+0.07*draw.Float64())*float64(int(1)<<min(times, 3))
}

func (f *flow) leave() {
	not := func(o *flow) bool { return o == f }
	f.to.bring = slices.DeleteFunc(f.to.bring, not)
	f.from.sends = slices.DeleteFunc(f.from.sends, not)
	f.from.queued = slices.DeleteFunc(f.from.queued, not)
	for len(f.from.queued) > 0 && len(f.from.sends) < slots {
		next := f.from.queued[0]
		f.from.queued = f.from.queued[1:]
		next.start()
	}
}

// assertSwarm asserts the average of two seeds: the speeds of the last node and of the median,
// at least in parts of the ideal that the links allow, and the number of files that the
// origin sends at most.
func assertSwarm(t *testing.T, s simulation, ideal, last, median, origin float64) {
	t.Helper()
	var l, m, o float64
	const seeds = 2
	for seed := range uint64(seeds) {
		got := s.run(seed)
		l += ideal / got.times[len(got.times)-1] / seeds
		m += ideal / got.times[len(got.times)/2] / seeds
		o += got.origin / seeds
	}
	t.Logf("all %.3f median %.3f origin %.3f", l, m, o)
	assert.GreaterOrEqual(t, l, last, "all")
	assert.GreaterOrEqual(t, m, median, "the median")
	assert.LessOrEqual(t, o, origin, "files that the origin sends")
}

func same(speed float64) func(int) float64 { return func(int) float64 { return speed } }

func TestSwarmsOfAnySizeAreAboutAsFastAsTheirLinks(t *testing.T) {
	for _, c := range []struct{ nodes, shards int }{{1, 64}, {2, 64}, {8, 256}, {24, 256}} {
		t.Run(fmt.Sprint(c.nodes), func(t *testing.T) {
			s := simulation{nodes: c.nodes, shards: c.shards, speed: same(12.5)}
			assertSwarm(t, s, float64(c.shards)/12.5, 0.9, 0.9, 1.07)
		})
	}
}

// As a delta has them: nodes list them more often then.
func TestASmallSwarmedStreamTakesLittleMoreThanItsLinksDo(t *testing.T) {
	every := listEvery
	listEvery = 0.025
	defer func() { listEvery = every }()
	assertSwarm(t, simulation{nodes: 8, shards: 32, speed: same(50)}, 32.0/50, 0.85, 0.85, 1.1)
}

// At first each node knows only the nodes that came first.
func TestNodesThatComeLastGiveAsMuchAsOthers(t *testing.T) {
	first := func(draw *rand.Rand) []int { return draw.Perm(swarm.MaxPeers + 1) }
	assertSwarm(t, simulation{nodes: 24, shards: 256, speed: same(12.5), first: first}, 256/12.5, 0.85, 0.85, 1.1)
}

// A server lists its shards to a bounded number of nodes at a time, those that came first.
func TestNodesToWhichTheOriginListsNoShardsAreAsFastAsOthers(t *testing.T) {
	first := func(draw *rand.Rand) []int { return draw.Perm(swarm.MaxPeers + 1) }
	s := simulation{nodes: 24, shards: 256, speed: same(12.5), first: first, heard: 6}
	assertSwarm(t, s, 256/12.5, 0.85, 0.85, 1.1)
}

func TestSwarmGoesOnWhenNodesDie(t *testing.T) {
	dies := func(n int) float64 { return map[int]float64{2: 9, 5: 11}[n] }
	s := simulation{nodes: 8, shards: 256, speed: same(12.5), dies: dies}
	assertSwarm(t, s, 256/12.5, 0.8, 0.8, 1.2)
}

func TestSlowNodesOfASwarmDoNotHoldUpOthers(t *testing.T) {
	s := simulation{nodes: 8, shards: 256, speed: func(n int) float64 {
		if n == 3 {
			return 1.25
		}
		return 12.5
	}}
	assertSwarm(t, s, 256/12.5, 0, 0.75, 1.3)
}

// It takes minutes: SIM_NODES=1024 go test -run ThousandsOfNodes -v ./internal/swarm.
func TestASwarmOfThousandsOfNodesIsAboutAsFastAsItsLinks(t *testing.T) {
	nodes, err := strconv.Atoi(cmp.Or(os.Getenv("SIM_NODES"), "0"))
	require.NoError(t, err)
	if nodes == 0 {
		t.Skip("SIM_NODES is the number of nodes")
	}
	first := func(draw *rand.Rand) []int { return draw.Perm(min(nodes, swarm.MaxPeers+1)) }
	for name, s := range map[string]simulation{
		"all hear the origin": {nodes: nodes, shards: 512, speed: same(12.5)},
		"256 hear the origin": {nodes: nodes, shards: 512, speed: same(12.5), heard: 256, first: first},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assertSwarm(t, s, 512/12.5, 0.85, 0.85, 1.1)
		})
	}
}

// Two middles are a swarm, and so are the clients of each. A middle sends all to its clients, and to the
// other middle what the origin does not send to both: if the origin sends f files, that takes 2 - f/2 times as
// long as one file, so that the least time is 4/3 of that, with f = 4/3.
func TestTwoTiersOfSwarmsAreNotFarFromWhatTheirLinksAllow(t *testing.T) {
	s := simulation{nodes: 10, middles: 2, shards: 128, speed: same(12.5)}
	assertSwarm(t, s, 4.0/3*128/12.5, 0.8, 0.85, 1.3)
}
