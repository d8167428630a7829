//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shardcast/shardcast/scripts/internal/process"
)

const (
	// swarmClients fetch at the same time, and swarmRate bounds what each sends: a node with an
	// uplink of 100 Mbit/s.
	swarmClients = 6
	swarmRate    = "12MB/s"

	// swarmShard in bytes is a shard there.
	swarmShard = 1_000_000

	inSwarm = "shardcast, six nodes that swap"
)

// swarmPart measures what nodes that swap shards cost for each byte that arrives, beside the
// SHA-256 of the same bytes, and how often they wait for the kernel.
func (b *bench) swarmPart(ctx context.Context) error {
	f, err := b.main(ctx)
	if err != nil {
		return err
	}
	v, err := b.published(ctx, f, filepath.Join(b.dir, "swarm"), swarmShard)
	if err != nil {
		return err
	}
	defer v.remove() //nolint:errcheck // the directory goes with all the rest
	var tools []tool
	for _, side := range b.sides() {
		tools = append(tools, tool{side.of + inSwarm, Ours, nil, func(ctx context.Context, dir string) (Sample, error) {
			return side.swap(ctx, v, dir)
		}})
	}
	env := []string{"FILE=" + f.Name}
	once := b.shell(openssl, Part, f.Size, env, f.Digest.String(), `exec openssl dgst -sha256 "$FILE"`, "openssl")
	return b.table(ctx, &Table{
		Name: "swarm", Key: CPURate, Limit: openssl,
		Title: fmt.Sprintf("%s to %d nodes that swap shards, each of which sends at most %s",
			f.Size.String(), swarmClients, swarmRate),
	}, append(tools, once))
}

// swap has nodes fetch a version from an origin and from one another.
func (b *bench) swap(ctx context.Context, v version, dir string) (s Sample, err error) {
	ctx, cancel := bounded(ctx, int64(v.file.Size)*swarmClients)
	defer cancel()
	data, err := b.own(ctx, v)
	if err != nil {
		return nil, err
	}
	origin, err := b.serve(ctx, "origin", data, "--swarm", "--limit-rate", swarmRate)
	if err != nil {
		return nil, err
	}
	defer origin.Kill()
	nodes := []*process.Process{origin.process}
	for i := range swarmClients {
		p, err := process.StartIn(ctx, dir, nil, b.command("client"), "--servers", origin.address, "--swarm",
			"--host", "127.0.0.1", "--port", "0", "--limit-rate", swarmRate, "--seed-for", "1h", "--version", "v1",
			"--output-file", fmt.Sprintf("out%d.bin", i), "--progress", "none")
		if err != nil {
			return nil, err
		}
		defer p.Kill()
		nodes = append(nodes, p)
	}
	for _, p := range nodes[1:] {
		if _, err := p.Await(`(?m)^\S*out\d\.bin$`); err != nil {
			return nil, err
		}
	}
	s = Sample{}
	for _, p := range nodes {
		seconds, err := cpu(p)
		if err != nil {
			return nil, err
		}
		s[CPU] += seconds
		s[Waits] += waits(p)
		s[Peak] = max(s[Peak], p.Peak())
	}
	bytes := int64(v.file.Size) * swarmClients
	s[Waits] /= float64(bytes) / 1e9
	return s.add(bytes), nil
}

// waits is how often the threads of a process have waited for the kernel.
func waits(p *process.Process) (n float64) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.ID()))
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		_, after, _ := strings.Cut(string(text), "\nvoluntary_ctxt_switches:")
		if fields := strings.Fields(after); len(fields) > 0 {
			count, _ := strconv.ParseFloat(fields[0], 64)
			n += count
		}
	}
	return n
}
