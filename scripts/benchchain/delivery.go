package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/shardcast/shardcast/scripts/internal/file"
)

// small in bytes is a file whose transfer takes next to no time.
const small file.Bytes = 1_000_000

// A delivery is a file on its way from the origin to all clients.
type delivery struct {
	publication

	listed time.Time // when all servers that clients ask listed it
	done   time.Time // when the last client had ended
	copies float64   // how many times the origin had sent the file by then; negative if unknown
}

// deliveries are the rounds of one kind.
type deliveries []delivery

// deliver makes rounds of one kind: servers by plan, and a client for each list of
// servers. Clients that wait are started before the file is published, others when
// all of their servers list it.
func (b *bench) deliver(ctx context.Context, p plan, from [][]int, waiting bool) (all deliveries, err error) {
	f, err := file.Random(ctx, filepath.Join(b.dir, "file.bin"), b.size, b.seed)
	if err != nil {
		return nil, err
	}
	for range b.rounds {
		err := b.round(ctx, b.ideal(b.size), func(ctx context.Context, dir string) error {
			n, err := b.start(ctx, dir, p, b.shardSize())
			if err != nil {
				return err
			}
			defer n.close()
			d, err := n.deliver(ctx, f.Name, from, waiting)
			if err != nil {
				return err
			}
			d.done, err = n.finish(f.Digest, func() { d.copies = float64(sent(n.servers[origin].ID())) / float64(b.size) })
			all = append(all, d)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, os.Remove(f.Name)
}

// deliver publishes the file called name to clients, and does not wait for them to have it.
func (n *network) deliver(ctx context.Context, name string, from [][]int, waiting bool) (d delivery, err error) {
	if waiting {
		for _, servers := range from {
			if err := n.download(ctx, servers, 1, "--wait", "5m"); err != nil {
				return d, err
			}
		}
		if err := pause(ctx, settle); err != nil {
			return d, err
		}
	}
	if d.publication, err = n.publish(ctx, name); err != nil {
		return d, err
	}
	for _, servers := range from {
		listed, err := n.listedByAll(ctx, servers, d.version)
		if err != nil {
			return d, err
		}
		if listed.After(d.listed) {
			d.listed = listed
		}
		if !waiting {
			if err := n.download(ctx, servers, d.version); err != nil {
				return d, err
			}
		}
	}
	return d, nil
}

// shardSize cuts the file into as many shards as there are to be.
func (b *bench) shardSize() int64 {
	return (int64(b.size) + int64(b.shards) - 1) / int64(b.shards)
}

// values are what f says of each.
func (all deliveries) values(f func(delivery) float64) (values []float64) {
	for _, d := range all {
		values = append(values, f(d))
	}
	return values
}

// rows prints the ratios, bounded if bound is not 0.
func (b *bench) rows(what string, all deliveries, bound float64) {
	ideal := b.ideal(b.size).Seconds()
	median := row(what, all.values(func(d delivery) float64 { return d.done.Sub(d.offered).Seconds() / ideal }), bound)
	if bound > 0 && median > bound {
		b.miss("%s: it took %.3f times its size divided by the rate, and at most %.2f are allowed", what, median, bound)
	}
	row("  from the start of broadcast", all.values(func(d delivery) float64 { return d.done.Sub(d.begun).Seconds() / ideal }), 0)
}

// chain measures how long a file takes through all tiers.
func (b *bench) chain(ctx context.Context) error {
	heading("chain: %d bytes in %d shards, origin -> %d middles -> client, %s/s each, %d rounds, x size/rate (%.2f s)",
		b.size, b.shards, b.tiers, b.rate.String(), b.rounds, b.ideal(b.size).Seconds())
	p := b.line()
	kinds := []bool{false}
	if b.clientWaits {
		kinds = append(kinds, true)
	}
	for _, waiting := range kinds {
		all, err := b.deliver(ctx, p, [][]int{{b.tiers}}, waiting)
		if err != nil {
			return err
		}
		what := "verified file, client started when it is listed"
		if waiting {
			what = "verified file, client --wait"
		}
		b.rows(what, all, mostRatio)
		row("listed by the last middle, ms", all.values(func(d delivery) float64 {
			return float64(d.listed.Sub(d.offered).Microseconds()) / 1000
		}), 0)
	}
	return nil
}

// line is a plan of middles one behind the other.
func (b *bench) line() plan {
	p := plan{originRate: b.rate, middleRate: b.rate}
	for i := range b.tiers {
		p.feeds = append(p.feeds, i)
	}
	return p
}

// known measures how long it takes for a version to be known everywhere.
func (b *bench) known(ctx context.Context) error {
	heading("known: %d files of %d bytes one after the other, origin -> %d middles, ms", b.publishes, small, b.tiers)
	var offered, begun []float64
	err := b.round(ctx, 0, func(ctx context.Context, dir string) error {
		n, err := b.start(ctx, dir, b.line(), int64(small))
		if err != nil {
			return err
		}
		defer n.close()
		for i := range b.publishes {
			p, at, err := n.spread(ctx, b.seed+uint64(i)+1)
			if err != nil {
				return err
			}
			offered = append(offered, float64(at.Sub(p.offered).Microseconds())/1000)
			begun = append(begun, float64(at.Sub(p.begun).Microseconds())/1000)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if median := row("listed by all middles", offered, mostKnown); median > mostKnown {
		b.miss("known: %.0f ms passed at the median before the last middle listed a version, and at most %d are allowed", median, mostKnown)
	}
	row("  from the start of broadcast", begun, 0)
	return nil
}

// spread publishes a small file, and returns when all servers listed it.
func (n *network) spread(ctx context.Context, seed uint64) (p publication, at time.Time, err error) {
	f, err := file.Random(ctx, filepath.Join(n.dir, "small.bin"), small, seed)
	if err != nil {
		return p, at, err
	}
	if p, err = n.publish(ctx, f.Name); err != nil {
		return p, at, err
	}
	all := make([]int, len(n.servers))
	for i := range all {
		all[i] = i
	}
	at, err = n.listedByAll(ctx, all, p.version)
	return p, at, err
}

// fanOut measures what it takes to bring a file to clients through middles side by
// side.
func (b *bench) fanOut(ctx context.Context) error {
	heading("fanout: %d bytes in %d shards, origin at %s/s, middles at any rate, %d rounds, x size/rate",
		b.size, b.shards, b.rate.String(), b.rounds)
	for _, kind := range []struct {
		what string
		from [][]int
	}{
		{"2 middles, 1 client", [][]int{{1, 2}}},
		{"3 middles, 3 clients", [][]int{{1, 2, 3}, {2, 3, 1}, {3, 1, 2}}},
	} {
		p := plan{originRate: b.rate, feeds: make([]int, len(kind.from[0]))} // all by the origin
		all, err := b.deliver(ctx, p, kind.from, b.clientWaits)
		if err != nil {
			return err
		}
		b.rows(kind.what, all, 0)
		if copies := all.values(func(d delivery) float64 { return d.copies }); copies[0] >= 0 {
			row("  copies of the file that the origin sent", copies, 0)
		}
	}
	fmt.Println("  The least is 1.00: the origin must send each byte once. A middle that fetches all")
	fmt.Println("  of the file from the origin, before anybody has it, makes it one more for each.")
	return nil
}

// written is where the system says how many bytes a process has written.
var written = regexp.MustCompile(`(?m)^wchar: (\d+)$`)

// sent is how many bytes a process has written to anything, which for an origin is
// what it has sent, but for its log. It is negative where the system does not say.
func sent(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return -1
	}
	found := written.FindSubmatch(text)
	if found == nil {
		return -1
	}
	bytes, err := strconv.ParseInt(string(found[1]), 10, 64)
	if err != nil {
		return -1
	}
	return bytes
}
