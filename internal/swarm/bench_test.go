package swarm_test

import (
	"math/rand/v2"
	"testing"

	"github.com/shardcast/shardcast/internal/swarm"
)

// The largest version, and the most peers: each worker picks whenever a line of a peer comes.
func BenchmarkPicker(b *testing.B) {
	const shards, nodes = 65536, 16
	p := swarm.NewPicker(shards, rand.New(rand.NewPCG(1, 1)))
	half := make([]swarm.Change, 0, shards/2)
	for i := 1; i <= shards; i += 2 {
		half = append(half, swarm.Change{State: swarm.Held, From: i, To: i})
	}
	for n := range nodes {
		p.Join(n)
	}
	b.Run("note", func(b *testing.B) {
		for i := range b.N {
			for _, c := range half {
				p.Note(i%nodes, c)
			}
		}
	})
	p.Note(swarm.Upstream, swarm.Change{State: swarm.Sent, From: 1, To: shards})
	b.Run("nothing", func(b *testing.B) {
		for range b.N {
			p.Next(func(int) bool { return false })
		}
	})
	for n := range nodes {
		p.Note(n, swarm.Change{State: swarm.Missing, From: 1, To: shards})
	}
	b.Run("no peer has any", func(b *testing.B) {
		for range b.N {
			k, ok := p.Next(anyNode)
			if ok {
				p.Drop(k)
			}
		}
	})
}

func BenchmarkParseLine(b *testing.B) {
	const shards = 65536
	now := make([]swarm.State, shards)
	for i := range now {
		now[i] = swarm.State("~+"[i%2])
	}
	line := string(swarm.AppendLine(nil, nil, now))
	line = line[:len(line)-1]
	for range b.N {
		if _, err := swarm.ParseLine(line, shards); err != nil {
			b.Fatal(err)
		}
	}
}
