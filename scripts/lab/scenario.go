package main

import (
	"context"
	"math"
	"time"

	"github.com/shardcast/shardcast/scripts/internal/flags"
)

// A role is that of a node.
type role int

const (
	origin role = iota
	middle
	client
	attacking // a foreign host that wants no file
)

// A fate is the course of a node in a trial.
type fate int

const (
	stays  fate = iota
	killed      // when it has received half of the file
	late        // it is started when another node has received half of the file
	lies        // it wants no file, and sends its peers wrong bytes, see [lie]
)

// A spec is one node of a plan.
type spec struct {
	role     role
	up, down rate
	from     []int // numbers of the servers that it fetches from, where the system has servers
	fate     fate
	odd      bool // it is unlike the others, whose times are therefore also reported without it
	attack   string
}

// wants reports whether the node is to hold the file in the end.
func (s spec) wants() bool {
	return (s.role == middle || s.role == client) && s.fate != killed && s.fate != lies
}

// A plan is all nodes, servers before those that fetch from them. The first is the
// origin.
type plan []spec

// bound is the least time in which all that want a file can have it over these links,
// if nothing but its bytes were on them:
//
//	max(S / up of the origin, S / slowest down, N * S / sum of all up)
//
// Links of nodes that are killed, or lie, count like all others, so that it remains a
// bound. Without the odd ones, N and the slowest down are those of the others.
func (p plan) bound(size flags.Bytes, odd bool) time.Duration {
	slowest, sum, n := math.Inf(1), 0.0, 0.0
	for _, s := range p {
		sum += s.up.bytesPerSecond()
		if s.wants() && (odd || !s.odd) {
			n++
			slowest = min(slowest, s.down.bytesPerSecond())
		}
	}
	least := 1 / min(p[0].up.bytesPerSecond(), slowest, sum/n)
	return time.Duration(float64(size) * least * float64(time.Second))
}

// clients is the number of clients.
func (p plan) clients() (n int) {
	for _, s := range p {
		if s.role == client {
			n++
		}
	}
	return n
}

// receivers is the number of nodes that want the file.
func (p plan) receivers() (n int) {
	for _, s := range p {
		if s.wants() {
			n++
		}
	}
	return n
}

// A shape describes the plans to make.
type shape struct {
	clients, middles int
	rate             rate
}

// A scenario makes plans.
type scenario struct {
	name, story string
	plan        func(shape) plan

	// sweep has the scenario run with each number of clients.
	sweep bool

	// run runs a trial, and nil is [trial.bring]. A scenario with a run is one of
	// shardcast alone.
	run func(context.Context, *trial) (Sample, error)

	// fresh has the origin begin with an empty data directory.
	fresh bool

	// shards is the number of shards of the file, and 0 leaves it to the flag.
	shards int64

	// goals are bounds that medians of shardcast's have to keep.
	goals []goal

	// goalsOf is the system that the goals are about, and empty for [ours].
	goalsOf string
}

func (s scenario) called() string { return s.name }

// A goal bounds the median of a figure.
type goal struct {
	figure string
	of     func(Sample) float64
	bound  float64
	least  bool // the bound is the least, and otherwise the most
}

// kept reports whether a median keeps the goal.
func (g goal) kept(median float64) bool {
	if g.least {
		return median >= g.bound
	}
	return median <= g.bound
}

// chainMiddles is the number of middles in a chain.
const chainMiddles = 3

// scenarios are all there are.
func scenarios() []scenario {
	return []scenario{
		{name: "star", plan: star, sweep: true, story: "one origin to all clients directly"},
		{name: "tree", plan: tree, sweep: true, story: "origin to middles to clients, each of which has one middle"},
		{
			name: "chain", plan: chain, story: "origin to three middles, one behind the other, to one client",
			goals: []goal{{"of the bound", Sample.ratio, 0.9, true}},
		},
		{
			name: "fanout", plan: fanout,
			story: "origin to middles side by side, to as many clients, which name all middles",
		},
		{name: "slow", plan: slow, story: "star, and one client with a tenth of the rate both ways"},
		{name: "asymmetric", plan: asymmetric, story: "star, all upload with a quarter of the rate"},
		{
			name: "killed", plan: killedMiddle,
			story: "origin to two middles to all clients, which name both, " +
				"and one middle is killed when it has half of the file",
		},
		{name: "gone", plan: gone, story: "star, and every fourth client is killed when it has half of the file"},
		{
			name: "lying", plan: lying,
			story: "star, and one client announces all shards to the others of a swarm, and sends them zeros",
		},
		{name: "late", plan: lateClient, story: "star, and one client is started when another has half of the file"},
		{
			name: "broadcast", plan: chain, run: broadcasting, fresh: true,
			story: "chain, whose client waits for the version; the clock starts with the command `broadcast`",
		},
		{
			name: "listed", plan: middlesInLine, run: listing, fresh: true,
			story: "from the origin's listing of a small version to the last of three middles in a chain, " +
				"twenty versions one after the other",
			goals: []goal{{"s to all nodes", all, 0.25, false}},
		},
		{
			name: "readers", plan: oneMiddle, run: sharing, shards: sharedShards,
			story: "64 readers beside a middle read the last shard of four while it arrives",
			goals: []goal{{"copies of the shard", copies, 1.05, false}},
		},
		{
			name: "crowd", plan: oneMiddle, run: crowding, shards: crowdShards,
			story: "64 readers beside a middle read arriving shards, each at 100 KB/s",
			goals: []goal{{"peak of a middle, MiB", peak, 64, false}},
		},
		{
			name: updates, plan: star, run: updating, fresh: true,
			story: "star of followers, which have the first version and get the second by a delta: " +
				"1 % of its numbers of two bytes have changed; the clock starts with the listing",
			goals: []goal{
				{"times sooner than in full", sooner, 25, true},
				{"deltas sent by the origin", deltas, 1.2, false},
			},
			goalsOf: inSwarm,
		},
		{
			name: slowReaders, plan: attacked(slowReaders), run: besieged,
			story: "star, and a host that reads shards at 1 byte/s, eight at a time, before the others come; " +
				"90 s stand for more than that",
		},
		{
			name: fakeNodes, plan: attacked(fakeNodes), run: besieged,
			story: "star, and a host that announces 64 nodes without shards, breaks off 100 requests " +
				"for fresh shards and follows the origin's shards 256 times; 90 s stand for more than that",
		},
	}
}

// newPlan is an origin.
func newPlan(s shape) plan { return plan{{role: origin, up: s.rate, down: s.rate}} }

// add adds a node that fetches from others.
func (p plan) add(r role, from ...int) plan {
	return append(p, spec{role: r, up: p[0].up, down: p[0].down, from: from})
}

func star(s shape) plan {
	p := newPlan(s)
	for range s.clients {
		p = p.add(client, 0)
	}
	return p
}

// attacked is star with an attacker, which comes first.
func attacked(attack string) func(shape) plan {
	return func(s shape) plan {
		p := newPlan(s).add(attacking, 0)
		p[1].attack = attack
		for range s.clients {
			p = p.add(client, 0)
		}
		return p
	}
}

func tree(s shape) plan {
	p, middles := newPlan(s), min(s.middles, s.clients)
	for range middles {
		p = p.add(middle, 0)
	}
	for i := range s.clients {
		p = p.add(client, 1+i%middles)
	}
	return p
}

func middlesInLine(s shape) plan {
	p := newPlan(s)
	for i := range chainMiddles {
		p = p.add(middle, i)
	}
	return p
}

func chain(s shape) plan { return middlesInLine(s).add(client, chainMiddles) }

func oneMiddle(s shape) plan { return newPlan(s).add(middle, 0) }

func fanout(s shape) plan {
	p := newPlan(s)
	for range s.middles {
		p = p.add(middle, 0)
	}
	for i := range s.middles {
		var all []int
		for j := range s.middles {
			all = append(all, 1+(i+j)%s.middles)
		}
		p = p.add(client, all...)
	}
	return p
}

func slow(s shape) plan {
	p := star(s)
	last := &p[len(p)-1]
	last.up, last.down, last.odd = last.up/10, last.down/10, true
	return p
}

func asymmetric(s shape) plan {
	p := star(s)
	for i := range p {
		p[i].up /= 4
	}
	return p
}

func killedMiddle(s shape) plan {
	p := newPlan(s).add(middle, 0).add(middle, 0)
	p[1].fate = killed
	for i := range s.clients {
		p = p.add(client, 1+i%2, 2-i%2)
	}
	return p
}

func gone(s shape) plan {
	p := star(s)
	for i := 4; i < len(p); i += 4 {
		p[i].fate = killed
	}
	return p
}

func lying(s shape) plan {
	p := star(s)
	p[len(p)-1].fate = lies
	return p
}

func lateClient(s shape) plan {
	p := star(shape{max(s.clients, 2), s.middles, s.rate})
	last := &p[len(p)-1]
	last.fate, last.odd = late, true
	return p
}
