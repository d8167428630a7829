package main

import (
	"math"
	"time"

	"github.com/shardcast/shardcast/scripts/internal/file"
)

// role is what a node does.
type role int

const (
	origin role = iota
	middle
	client
)

// fate is what becomes of a node in a trial.
type fate int

const (
	stays  fate = iota
	killed      // when it has received half of the file
	late        // it is started when another node has received half of the file
	lies        // it wants nothing, and sends others of its swarm wrong bytes, see [lie]
)

// A spec is one node of a plan.
type spec struct {
	role     role
	up, down rate
	from     []int // numbers of the nodes that it fetches from, if the system has such
	fate     fate
	odd      bool // it is unlike the others, which are therefore also looked at without it
}

// wants reports whether the node is to hold the file in the end.
func (s spec) wants() bool { return s.role != origin && s.fate != killed && s.fate != lies }

// A plan is all nodes, servers before those that fetch from them. The first is the
// origin.
type plan []spec

// bound is the least time in which all that want a file can have it over these links,
// if nothing but its bytes were on them:
//
//	max(S / up of the origin, S / slowest down, N * S / sum of all up)
//
// Links of nodes that are killed, or lie, count as if they did not, so that it remains a
// bound. Without the odd ones, N and the slowest down are those of the others.
func (p plan) bound(size file.Bytes, odd bool) time.Duration {
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

// receivers is the number of nodes that want the file.
func (p plan) receivers() (n int) {
	for _, s := range p {
		if s.wants() {
			n++
		}
	}
	return n
}

// A shape is what plans are made from.
type shape struct {
	clients, middles int
	rate             rate
}

// A scenario makes plans.
type scenario struct {
	name, story string
	sweep       bool // it is run with each number of clients
	plan        func(shape) plan
}

func (s scenario) called() string { return s.name }

// chainMiddles is how many middles a chain has.
const chainMiddles = 3

// scenarios are all there are.
func scenarios() []scenario {
	return []scenario{
		{"star", "one origin to all clients directly", true, star},
		{"tree", "origin to middles to clients, each of which has one middle", true, tree},
		{"chain", "origin to three middles, one behind the other, to one client", false, chain},
		{"slow", "star, and one client with a tenth of the rate both ways", false, slow},
		{"asymmetric", "star, all upload with a quarter of the rate", false, asymmetric},
		{"killed", "origin to two middles to all clients, which name both, and one middle is killed when it has half of the file", false, killedMiddle},
		{"gone", "star, and every fourth client is killed when it has half of the file", false, gone},
		{"lying", "star, and one client tells the others of a swarm that it has all shards, and sends them zeros", false, lying},
		{"late", "star, and one client is started when another has half of the file", false, lateClient},
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

func chain(s shape) plan {
	p := newPlan(s)
	for i := range chainMiddles {
		p = p.add(middle, i)
	}
	return p.add(client, chainMiddles)
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
