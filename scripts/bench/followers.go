//go:build linux

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
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardcast/shardcast/scripts/internal/flags"
)

const (
	// A node follows a version of followedShards shards of followedShard bytes each, of which the
	// origin sends one every shardEvery.
	followedShards             = 512
	followedShard  flags.Bytes = 10_000
	shardEvery                 = 100 * time.Millisecond

	// mostJoins is how often nodes join at most until the origin lists all of them.
	mostJoins = 100

	// mostFollowers bounds the nodes: an origin lists 4,096.
	mostFollowers = 4000
)

// running follows a version in one way.
type running func(*followers, context.Context) error

// followersPart measures what the nodes of a swarm cost their upstream beside the shards that it sends.
func (b *bench) followersPart(ctx context.Context) error {
	f, err := b.makeFile(ctx, "followed.bin", followedShards*followedShard)
	if err != nil {
		return err
	}
	v, err := b.published(ctx, f, filepath.Join(b.dir, "followed"), followedShard)
	if err != nil {
		return err
	}
	defer v.remove() //nolint:errcheck // the directory goes with all the rest
	var tools []tool
	for _, side := range b.sides() {
		add := func(name string, role Role, run running) {
			tools = append(tools, tool{side.of + name, role, nil, func(ctx context.Context, _ string) (Sample, error) {
				return side.follow(ctx, v, run)
			}})
		}
		add("no follower", Part, (*followers).rest)
		add("peers.txt, asked once", Ours, (*followers).askForPeers)
		add("lists of shards, none is sent", Ours, (*followers).hear)
		add("lists of shards, ten are sent a second", Ours, (*followers).hearSent)
	}
	return b.table(ctx, &Table{
		Name: "followers", Key: CPU,
		Title: fmt.Sprintf("an origin of %d shards and %d nodes of its swarm, for %s or one request each",
			len(v.paths), b.flags.followers, b.flags.span),
	}, tools)
}

// followers are nodes of a swarm, each at an address of its own.
type followers struct {
	server  *server
	version version
	port    int // for peers, at each address
	conns   []*connection
	bytes   atomic.Int64 // that the nodes have received
	span    time.Duration

	// begin begins the measurement.
	begin func() error
}

// follow starts an origin and the followers, and measures what they do.
func (b *bench) follow(ctx context.Context, v version, run running) (s Sample, err error) {
	ctx, cancel := bounded(ctx, 0)
	defer cancel() // which closes all connections
	data, err := b.own(ctx, v)
	if err != nil {
		return nil, err
	}
	origin, err := b.serve(ctx, "origin", data, "--swarm", "--log-level", "INFO")
	if err != nil {
		return nil, err
	}
	defer origin.Kill()
	var before float64
	var started time.Time
	f := &followers{server: origin, version: v, span: b.flags.span}
	f.begin = func() (err error) {
		f.bytes.Store(0)
		started = time.Now()
		before, err = cpu(origin.process)
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "0.0.0.0:0")
	if err != nil {
		return nil, err
	}
	probed := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(healthy)}
	defer probed.Close() //nolint:errcheck // no request of it counts
	go func() { _ = probed.Serve(listener) }()
	if at, ok := listener.Addr().(*net.TCPAddr); ok {
		f.port = at.Port
	}
	for i := range b.flags.followers {
		if err := f.connect(ctx, i); err != nil {
			return nil, err
		}
	}
	if err := run(f, ctx); err != nil {
		return nil, err
	}
	after, err := cpu(origin.process)
	return Sample{
		Wall: time.Since(started).Seconds(), CPU: after - before, Peak: origin.process.Peak(),
		Wire: float64(f.bytes.Load()) / 1e6,
	}, err
}

// healthy answers a server that probes a node.
func healthy(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") }

// counted counts the bytes that are read.
type counted struct {
	net.Conn

	bytes *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

// connect connects the follower of a number, which has a host of its own.
func (f *followers) connect(ctx context.Context, number int) error {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(number/250), byte(number%250+1))}}
	conn, err := dialer.DialContext(ctx, "tcp", f.server.address)
	if err != nil {
		return err
	}
	c := newConnection(counted{conn, &f.bytes})
	context.AfterFunc(ctx, c.hangUp)
	f.conns = append(f.conns, c)
	return nil
}

// rest does nothing for a while.
func (f *followers) rest(ctx context.Context) error {
	if err := f.begin(); err != nil {
		return err
	}
	return f.wait(ctx)
}

func (f *followers) wait(ctx context.Context) error {
	select {
	case <-time.After(f.span):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// askForPeers has each node join until all are listed, and then once more.
func (f *followers) askForPeers(ctx context.Context) error {
	for range mostJoins {
		listed, err := f.join()
		if err != nil {
			return err
		}
		if listed == len(f.conns) {
			if err := f.begin(); err != nil {
				return err
			}
			_, err := f.join()
			return err
		}
		select {
		case <-time.After(settle):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return errors.New("the origin does not list all nodes")
}

// join has each node join, and returns how many the server lists.
func (f *followers) join() (listed int, err error) {
	for _, c := range f.conns {
		resp, err := c.ask("/peers.txt", fmt.Sprintf("Shardcast-Peer: %d\r\n", f.port))
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return 0, err
		}
		if resp.Header.Get("Shardcast-Peer") == "listed" {
			listed++
		}
	}
	return listed, nil
}

// hear has the nodes hear the lists of shards, as many as the server lets.
func (f *followers) hear(ctx context.Context) error {
	return f.heard(ctx, func(ctx context.Context) error { return f.wait(ctx) })
}

// hearSent has them hear that shards are sent.
func (f *followers) hearSent(ctx context.Context) error {
	return f.heard(ctx, func(ctx context.Context) error {
		c, err := connect(ctx, f.server.address)
		if err != nil {
			return err
		}
		tick := time.NewTicker(shardEvery)
		defer tick.Stop()
		for i := range int(f.span / shardEvery) {
			resp, err := c.ask(f.version.paths[i%len(f.version.paths)], "Shardcast-Swarm: fresh\r\n")
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, resp.Body)
			if err := errors.Join(err, resp.Body.Close()); err != nil {
				return err
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
}

// heard measures what happens while the nodes hear.
func (f *followers) heard(ctx context.Context, what func(context.Context) error) error {
	var group sync.WaitGroup
	defer group.Wait()
	hearing := 0
	for _, c := range f.conns {
		resp, err := c.ask("/v1/have?digest="+f.version.file.Digest.String(), "")
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			_ = resp.Body.Close()
			continue
		}
		hearing++
		defer c.hangUp() // before the wait for all
		group.Go(func() {
			_, _ = io.Copy(io.Discard, resp.Body) // until it is hung up
			_ = resp.Body.Close()
		})
	}
	fmt.Fprintf(os.Stderr, "%d of %d nodes hear the origin\n", hearing, len(f.conns))
	if err := f.begin(); err != nil {
		return err
	}
	return what(ctx)
}
