package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/delta/synthetic"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/scripts/internal/process"
)

const (
	// updates is the name of the scenario of [updating].
	updates = "delta"

	// changed is the fraction of the numbers of two bytes that the second version has otherwise.
	changed = 0.01

	// changedAtOnce bounds the memory for making it, in bytes.
	changedAtOnce = 32 << 20
)

// swarms reports whether the system is shardcast with swarms.
func (s system) swarms() bool { return s.name == inSwarm || s.name == baseName(inSwarm) }

// updating lets all clients follow the origin: to the first version, which comes in full, and then to the second one,
// of which all that is new is in a delta. Its sample is that of the second; the clock of each node starts when the
// origin lists it.
func updating(ctx context.Context, t *trial) (s Sample, err error) {
	start := t.system.start
	t.system.start = func(ctx context.Context, t *trial, i int, dir string) (*node, error) {
		if t.plan[i].role == client {
			return startFollower(ctx, t, i, dir)
		}
		return start(ctx, t, i, dir)
	}
	if err := t.publish(ctx, t.lab.file.Name, "v1"); err != nil {
		return s, err
	}
	full, err := t.bring(ctx)
	if err != nil {
		return s, err
	}
	second := filepath.Join(t.dir, "second.bin")
	if t.digest, err = change(second, t.lab.file.Name, t.lab.seed); err != nil {
		return s, err
	}
	for _, n := range t.nodes[1:] {
		n.output, n.held = filepath.Join(filepath.Dir(n.output), "v2.bin"), delivered(n.process, 2)
	}
	watcher, err := t.beside(ctx, 0, watchCommand)
	if err != nil {
		return s, err
	}
	broadcast := make(chan error, 1)
	s, err = t.measure(ctx, func(ctx context.Context) error {
		go func() { broadcast <- t.publish(ctx, second, "v2", "--delta") }()
		listed, err := listedAt(watcher, 2)
		t.begun = listed
		for _, n := range t.nodes {
			n.began = listed
		}
		return err
	}, func(context.Context) error { return <-broadcast })
	if err != nil {
		return s, err
	}
	delta, err := sizeOf(filepath.Join(t.stock, "v2", "from_v1", "shard_*.bin"))
	if err != nil {
		return s, err
	}
	s.Sooner = full.All / s.All
	s.Deltas = s.Sent * float64(t.lab.size) / float64(delta)
	return s, nil
}

// startFollower starts a node that follows the origin, and holds the first version when it has that.
func startFollower(ctx context.Context, t *trial, i int, dir string) (*node, error) {
	args := append([]string{
		"follow", "--servers", strings.Join(t.servers(i), ","),
		"--output-dir", dir, "--output-template", "v{n}.bin", "--progress", "none",
	}, t.lab.clientArgs...)
	if t.system.swarms() {
		args = append(args, "--swarm", "--port", port)
	}
	p, err := t.net.start(ctx, i, t.command("client"), args...)
	if err != nil {
		return nil, err
	}
	return &node{process: p, output: filepath.Join(dir, "v1.bin"), held: delivered(p, 1)}, nil
}

// delivered returns a function that waits until a follower prints the path of a version.
func delivered(p *process.Process, v shard.Version) func() (time.Time, error) {
	return func() (time.Time, error) { return awaited(p, fmt.Sprintf(`(?m)^\S*v%d\.bin$`, v)) }
}

// publish publishes a file in the stock, as the version that is expected.
func (t *trial) publish(ctx context.Context, name, version string, args ...string) error {
	p, err := t.net.start(ctx, 0, t.command("origin"), append(t.broadcast(name), args...)...)
	if err != nil {
		return err
	}
	if _, err = p.Wait(); err == nil && strings.TrimSpace(p.Log()) != version {
		err = fmt.Errorf("broadcast printed %q, and not %s", p.Log(), version)
	}
	return err
}

// change makes a file like another one, of which some numbers of two bytes differ as after a training step, and
// returns its digest.
func change(name, from string, seed uint64) (digest shard.Digest, err error) {
	in, err := os.Open(from)
	if err != nil {
		return digest, err
	}
	defer in.Close()
	out, err := os.Create(name)
	if err != nil {
		return digest, err
	}
	sum := sha256.New()
	w := bufio.NewWriter(io.MultiWriter(out, sum))
	buf := make([]byte, changedAtOnce)
	for err == nil {
		var n int
		n, err = io.ReadFull(in, buf)
		seed++
		_, writeErr := w.Write(synthetic.Step(seed, buf[:n], 2, changed))
		err = errors.Join(err, writeErr)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	err = errors.Join(err, w.Flush(), out.Close())
	return shard.Digest(sum.Sum(nil)), err
}

// sizeOf is the size of all files that match a pattern, together. Without one it is an error.
func sizeOf(pattern string) (size int64, err error) {
	names, err := filepath.Glob(pattern)
	if err == nil && names == nil {
		err = fmt.Errorf("there is no %s", pattern)
	}
	for _, name := range names {
		info, statErr := os.Stat(name)
		if statErr != nil {
			return 0, errors.Join(err, statErr)
		}
		size += info.Size()
	}
	return size, err
}
