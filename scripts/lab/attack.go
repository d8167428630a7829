package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// attackCommand as the first argument makes this program a foreign host with one
	// address, which keeps nodes from an origin.
	attackCommand = "attack"

	// Kinds of attacks.
	slowReaders = "slowreaders"
	fakeNodes   = "fakenodes"

	// siege is the time in which all nodes have to have the file beside an attacker.
	siege = 90 * time.Second

	// slots is the number of slow readers, as many as an origin has slots for nodes of a
	// swarm. Each reads a byte a drip.
	slots = 8
	drip  = time.Second

	// fakes is the number of fake nodes, which listen from the port fakePort on.
	fakes    = 64
	fakePort = 20_000

	// broken is the number of requests for fresh shards that are broken off, and
	// followings that of requests that follow the origin's shards.
	broken     = 100
	followings = 256
)

// errBesieged means that a siege was too short for a node.
var errBesieged = errors.New("not all nodes have the file in time")

// besieged starts the attacker, and then the clock and the nodes. A sample of a trial that
// is too long has the time of a siege, and the part of the file that each node received.
func besieged(ctx context.Context, t *trial) (Sample, error) {
	for i, s := range t.plan {
		if s.attack != "" {
			if err := t.start(ctx, i); err != nil {
				return Sample{}, err
			}
		}
	}
	var seen Sample
	_, before, err := counters(t.nodes[0].process)
	if err != nil {
		return seen, err
	}
	late := false
	s, err := t.measure(ctx, t.startOthers, func(ctx context.Context) (err error) {
		if seen.Received, err = t.sitOut(ctx); err != nil {
			late = errors.Is(err, errBesieged)
			_, after, failed := counters(t.nodes[0].process)
			seen.Sent = float64(after-before) / float64(t.lab.size)
			return errors.Join(err, failed)
		}
		return nil
	})
	if late {
		seen.All, seen.Bound = siege.Seconds(), t.plan.bound(t.lab.size, true).Seconds()
		seen.Median, seen.Slowest = seen.All, seen.All
		return seen, nil
	}
	s.Received = seen.Received
	return s, err
}

// sitOut waits until all nodes have the file, and returns the bytes that each received, in
// files. When that takes too long it returns errBesieged, and forgets the files that are
// missing.
func (t *trial) sitOut(ctx context.Context) (received []float64, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, siege, errBesieged)
	defer cancel()
	bytes := make(map[*node]int64)
	for missing := []*node{nil}; len(missing) > 0 && err == nil; {
		missing = nil
		for i, n := range t.nodes {
			if !t.plan[i].wants() {
				continue
			}
			if got, _, err := counters(n.process); err == nil { // it may have ended
				bytes[n] = max(bytes[n], got)
			}
			if _, err := os.Stat(n.output); err != nil {
				missing = append(missing, n)
			}
		}
		if err = pause(ctx, glance); err != nil {
			for _, n := range missing {
				n.output = ""
			}
		}
	}
	for _, n := range bytes {
		received = append(received, float64(n)/float64(t.lab.size))
	}
	slices.Sort(received)
	return received, err
}

// startAttack starts an attacker, and returns when the attack is on.
func startAttack(ctx context.Context, t *trial, i int, _ string) (*node, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	manifest := filepath.Join(t.stock, "v1", "manifest.json")
	p, err := t.net.start(ctx, i, self, attackCommand, t.plan[i].attack, t.servers(i)[0], manifest)
	if err != nil {
		return nil, err
	}
	_, err = p.Await("attacking")
	return &node{process: p}, err
}

// attack attacks a server until ctx ends, and prints a line when the attack is on.
func attack(ctx context.Context, kind, server, manifest string) error {
	m, err := readManifest(manifest)
	if err != nil {
		return err
	}
	a := &attacker{server: "http://" + server + "/", manifest: m, client: &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialSlowly},
	}}
	defer a.running.Wait()
	if kind == slowReaders {
		a.takeSlots(ctx)
	} else if err := a.crowdOut(ctx); err != nil {
		return err
	}
	fmt.Println("attacking")
	<-ctx.Done()
	return nil
}

// An attacker attacks a server.
type attacker struct {
	server   string
	manifest shard.Manifest
	client   *http.Client // with a small receive buffer
	running  sync.WaitGroup
}

// shard asks for a shard as a node of a swarm does.
func (a *attacker) shard(ctx context.Context, number int, as string) (*http.Response, error) {
	url := a.server + "v1/" + shard.FileName((number-1)%len(a.manifest.Shards)+1)
	return getWith(ctx, a.client, url, wire.SwarmHeader, as)
}

// again repeats f until ctx ends, and returns when all have called their first time.
func (a *attacker) again(ctx context.Context, times int, f func(i int, begun func())) {
	var first sync.WaitGroup
	for i := range times {
		first.Add(1)
		begun := sync.OnceFunc(first.Done)
		a.running.Go(func() {
			for ctx.Err() == nil {
				f(i, begun)
				begun()
				_ = pause(ctx, lyingEvery) // or the end
			}
		})
	}
	first.Wait()
}

// takeSlots has slow readers take all slots, and again when they lose them.
func (a *attacker) takeSlots(ctx context.Context) {
	a.again(ctx, slots, func(i int, begun func()) {
		resp, err := a.shard(ctx, i+1, swarm.AsUpstream)
		begun()
		if err != nil {
			return
		}
		defer resp.Body.Close()
		for err == nil {
			if _, err = io.CopyN(io.Discard, resp.Body, 1); err == nil {
				err = pause(ctx, drip)
			}
		}
	})
}

// crowdOut announces fake nodes, breaks off requests for fresh shards, and follows the
// shards of the server more often than it lets others.
func (a *attacker) crowdOut(ctx context.Context) error {
	var fields []string
	for i := range fakes {
		port := strconv.Itoa(fakePort + i)
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+port)
		if err != nil {
			return err
		}
		srv := &http.Server{Handler: empty(), ReadHeaderTimeout: 10 * time.Second}
		context.AfterFunc(ctx, func() { _ = srv.Close() })
		a.running.Go(func() { _ = srv.Serve(ln) })
		fields = append(fields, port)
	}
	a.again(ctx, fakes, func(i int, _ func()) { announceNode(ctx, a.server, fields[i]) })
	for i := range broken {
		if resp, err := a.shard(ctx, i+1, swarm.AsFresh); err == nil {
			_ = resp.Body.Close()
		}
	}
	have := a.server + "v1/" + wire.HaveName + "?" + wire.DigestQuery + "=" + a.manifest.Digest.String()
	a.again(ctx, followings, func(_ int, begun func()) {
		resp, err := get(ctx, a.client, have)
		begun()
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	})
	return pause(ctx, settle)
}

// empty answers like a node that has no shard, and gets none.
func empty() http.Handler { return fakeNode("", http.NotFound) }
