package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/process"
)

// origin is the number of the origin among the servers of a network; the middles
// follow it.
const origin = 0

// A plan says which servers there are.
type plan struct {
	originRate, middleRate file.Bytes // 0 is none

	// feeds are the numbers of the servers that feed the middles, one for each.
	feeds []int

	// through puts something before the origin and returns its address. Nil does not.
	through func(origin string) (address string)
}

// A server is one of a network, with what watches it.
type server struct {
	*process.Process

	address, dir string
	*watcher
}

// A network is an origin and middles that run.
type network struct {
	*bench

	dir       string
	servers   []server
	clients   []*process.Process
	shardSize int64

	cancel   context.CancelFunc
	watching errgroup.Group
}

// start starts the servers of a plan in dir, and waits for them to get to rest. They
// run until the network is closed.
func (b *bench) start(ctx context.Context, dir string, p plan, shardSize int64) (_ *network, err error) {
	n := &network{bench: b, dir: dir, shardSize: shardSize}
	ctx, n.cancel = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if err := n.serve(ctx, "origin", p.originRate); err != nil {
		return nil, err
	}
	for _, feed := range p.feeds {
		address := n.servers[feed].address
		if feed == origin && p.through != nil {
			address = p.through(address)
		}
		args := []string{"--upstream", address}
		if b.interval != "" {
			args = append(args, "--check-interval", b.interval)
		}
		if err := n.serve(ctx, "middle", p.middleRate, args...); err != nil {
			return nil, err
		}
	}
	return n, pause(ctx, settle)
}

// serve starts a server and watches what it lists.
func (n *network) serve(ctx context.Context, role string, rate file.Bytes, args ...string) error {
	dir := filepath.Join(n.dir, role+strconv.Itoa(len(n.servers)))
	args = append(args, "--data-dir", dir, "--host", "127.0.0.1", "--port", "0")
	if rate > 0 {
		args = append(args, "--limit-rate", strconv.FormatInt(int64(rate), 10))
	}
	p, err := process.Start(ctx, n.command(role), args...)
	if err != nil {
		return err
	}
	n.servers = append(n.servers, server{Process: p, dir: dir})
	s := &n.servers[len(n.servers)-1]
	if s.address, err = p.Await(`msg=listening addr=(\S+)`); err != nil {
		return err
	}
	w := newWatcher(s.address)
	s.watcher = w
	n.watching.Go(func() error {
		w.follow(ctx)
		return nil
	})
	return nil
}

// close ends all that runs.
func (n *network) close() {
	n.cancel()
	_ = n.watching.Wait()
	for _, s := range n.servers {
		s.Kill()
	}
	for _, c := range n.clients {
		c.Kill()
	}
}

// A publication is what publishing has come to.
type publication struct {
	version shard.Version
	begun   time.Time // when it began
	offered time.Time // when the origin listed it or the broadcast had ended, whichever was first
}

// publish publishes the file called name.
func (n *network) publish(ctx context.Context, name string) (publication, error) {
	p := publication{begun: time.Now()}
	broadcast, err := process.Start(ctx, n.command("origin"), "broadcast", name, "--data-dir", n.servers[origin].dir,
		"--shard-size", strconv.FormatInt(n.shardSize, 10), "--log-level", "WARNING")
	if err != nil {
		return p, err
	}
	if p.offered, err = broadcast.Wait(); err != nil {
		return p, err
	}
	if p.version, err = shard.ParseVersion(strings.TrimSpace(broadcast.Log())); err != nil {
		return p, err
	}
	listed, err := n.servers[origin].listedAt(ctx, p.version)
	if listed.Before(p.offered) {
		p.offered = listed
	}
	return p, err
}

// listedByAll waits until all of those servers list v, and returns when the last of
// them did.
func (n *network) listedByAll(ctx context.Context, servers []int, v shard.Version) (last time.Time, err error) {
	for _, i := range servers {
		at, err := n.servers[i].listedAt(ctx, v)
		if err != nil {
			return last, err
		}
		if at.After(last) {
			last = at
		}
	}
	return last, nil
}

// download starts a client that downloads from those servers.
func (n *network) download(ctx context.Context, from []int, v shard.Version, more ...string) error {
	var addresses []string
	for _, i := range from {
		addresses = append(addresses, n.servers[i].address)
	}
	args := append([]string{
		"--servers", strings.Join(addresses, ","), "--version", v.String(), "--output-file", n.output(len(n.clients)),
	}, more...)
	c, err := process.Start(ctx, n.command("client"), args...)
	if err == nil {
		n.clients = append(n.clients, c)
	}
	return err
}

// output is the file of a client.
func (n *network) output(client int) string {
	return filepath.Join(n.dir, "client"+strconv.Itoa(client), "out.bin")
}

// finish waits for all clients, calls ended, and checks their files. It returns when
// the last of them had ended.
func (n *network) finish(digest shard.Digest, ended func()) (last time.Time, err error) {
	for _, c := range n.clients {
		at, err := c.Wait()
		if err != nil {
			return last, err
		}
		if at.After(last) {
			last = at
		}
	}
	ended()
	for i := range n.clients {
		f, err := os.Open(n.output(i))
		if err != nil {
			return last, err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return last, err
		}
		if shard.Digest(h.Sum(nil)) != digest {
			return last, fmt.Errorf("the file of client %d is not what was published", i+1)
		}
	}
	return last, nil
}
