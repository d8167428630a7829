package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/flags"
	"github.com/shardcast/shardcast/scripts/internal/process"
)

// A system brings files to nodes.
type system struct {
	name, story string
	needs       []string // programs that it runs

	// start starts the programs of a node of a trial, with dir for its files. It returns
	// when servers accept requests, and does not wait for the file.
	start func(ctx context.Context, t *trial, i int, dir string) (*node, error)

	// bin is the directory of shardcast's commands, and empty for other systems.
	bin string
}

func (s system) called() string { return s.name }

// systems are all there are; those of shardcast run the commands in the directory bin.
func systems(bin string) []system {
	return []system{
		{
			name: ours, bin: bin, start: startShardcast,
			story: "shards by HTTP, middles pass on arriving shards",
		},
		{
			name: inSwarm, bin: bin, start: startSwarm,
			story: "shardcast with --swarm: nodes that fetch from the same server swap shards",
		},
		{
			name: "nginx", start: startNginx, needs: []string{"nginx", "aria2c"},
			story: "nginx and aria2c, ten shards at a time, each checked by SHA-256 and then joined; " +
				"middles are nginx with proxy_cache and proxy_cache_lock",
		},
		{
			name: "bittorrent", start: startTorrent, needs: []string{"aria2c"},
			story: "aria2c with a tracker on the origin, and all other nodes in one torrent, " +
				"whatever they are in the scenario; aria2c checks each piece",
		},
	}
}

// Names of systems. Goals are about ours, unless a scenario names another one.
const (
	ours    = "shardcast"
	inSwarm = "swarm"
)

// based are the systems of shardcast with the commands in the directory base, called
// after those with others.
func based(all []system, base string) (of []system) {
	for _, s := range all {
		if s.bin != "" {
			s.name, s.bin, s.story = baseName(s.name), base, s.name+" with the commands of -base"
			of = append(of, s)
		}
	}
	return of
}

// baseName is the name of a system with base commands.
func baseName(system string) string { return "base " + system }

// port is where servers listen.
const port = "8000"

// prepare makes the file, once for all trials.
func (l *lab) prepare(ctx context.Context) (err error) {
	if l.file, err = file.Random(ctx, filepath.Join(l.dir, "file.bin"), l.size, l.seed); err != nil {
		return err
	}
	text, err := torrent(l.file, announce())
	if err != nil {
		return err
	}
	return os.WriteFile(l.torrentFile(), text, 0o600)
}

// stockUp sets the data directory of origins: an empty one of the trial, or one that all
// trials with these commands and shards of this size share.
func (t *trial) stockUp(ctx context.Context, s scenario) error {
	if s.shards > 0 {
		t.shardSize = (t.lab.size + flags.Bytes(s.shards) - 1) / flags.Bytes(s.shards)
	}
	if s.fresh {
		t.stock = filepath.Join(t.dir, "stock")
		return nil
	}
	base := 0
	if t.system.bin == t.lab.base {
		base = 1
	}
	t.stock = filepath.Join(t.lab.dir, fmt.Sprintf("stock-%d-%d", t.shardSize, base))
	if _, err := os.Stat(t.stock); err == nil {
		return nil
	}
	p, err := process.Start(ctx, t.command("origin"), t.broadcast(t.lab.file.Name)...)
	if err == nil {
		_, err = p.Wait()
	}
	return err
}

// broadcast are the arguments that publish a file in the stock.
func (t *trial) broadcast(name string) []string {
	return []string{
		"broadcast", name, "--data-dir", t.stock,
		"--shard-size", strconv.FormatInt(int64(t.shardSize), 10), "--log-level", "WARNING",
	}
}

// command is one of shardcast's. Other systems have the stock of the commands under test.
func (t *trial) command(role string) string {
	return filepath.Join(cmp.Or(t.system.bin, t.lab.bin), "shardcast-"+role)
}

// servers are the addresses of those that a node fetches from.
func (t *trial) servers(i int) (all []string) {
	for _, from := range t.plan[i].from {
		all = append(all, address(from)+":"+port)
	}
	return all
}

func startShardcast(ctx context.Context, t *trial, i int, dir string) (*node, error) {
	servers := strings.Join(t.servers(i), ",")
	if t.plan[i].role == client {
		out := filepath.Join(dir, "out.bin")
		args := append([]string{
			"--servers", servers, "--version", "v1", "--wait", "5m", "--output-file", out, "--progress", "none",
		}, t.lab.clientArgs...)
		p, err := t.net.start(ctx, i, t.command("client"), args...)
		if err != nil {
			return nil, err
		}
		// A client prints the path when the file is there, and may go on to serve it.
		held := func() (time.Time, error) { return awaited(p, `(?m)^\S*out\.bin$`) }
		return &node{process: p, output: out, held: held}, nil
	}
	args := append([]string{"--data-dir", t.stock, "--port", port}, t.lab.originArgs...)
	role := "origin"
	if t.plan[i].role == middle {
		data := filepath.Join(dir, "data")
		args = append([]string{"--upstream", servers, "--data-dir", data, "--port", port}, t.lab.middleArgs...)
		role = "middle"
	}
	p, err := t.net.start(ctx, i, t.command(role), args...)
	if err != nil {
		return nil, err
	}
	_, err = p.Await(`msg=listening`)
	return &node{process: p, held: func() (time.Time, error) { return awaited(p, `msg=fetched`) }}, err
}

// startSwarm is startShardcast with a swarm at each server and for each node. A client
// that holds the file goes on serving it.
func startSwarm(ctx context.Context, t *trial, i int, dir string) (*node, error) {
	l, in := *t.lab, *t
	in.lab = &l
	l.originArgs = append([]string{"--swarm"}, t.lab.originArgs...)
	l.middleArgs = append([]string{"--swarm"}, t.lab.middleArgs...)
	l.clientArgs = append([]string{"--swarm", "--port", port, "--seed-for", "1h"}, t.lab.clientArgs...)
	return startShardcast(ctx, &in, i, dir)
}

// awaited waits until a process writes a match of pattern, and returns the time of that.
func awaited(p *process.Process, pattern string) (time.Time, error) {
	_, err := p.Await(pattern)
	return time.Now(), err
}

func startNginx(ctx context.Context, t *trial, i int, dir string) (*node, error) {
	if t.plan[i].role == client {
		return startAria(ctx, t, i, dir)
	}
	content := "root " + t.stock + "; sendfile on; tcp_nopush on;"
	if t.plan[i].role == middle {
		content = "proxy_pass http://" + t.servers(i)[0] + "; " +
			"proxy_http_version 1.1; proxy_set_header Connection ''; " +
			"proxy_cache all; proxy_cache_valid 200 1h; proxy_ignore_headers Cache-Control; " +
			"proxy_cache_lock on; proxy_cache_lock_timeout 1h; proxy_cache_lock_age 1h; sendfile on; tcp_nopush on;"
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`
daemon off; master_process off; user root; pid nginx.pid; error_log stderr warn;
events { worker_connections 4096; }
http {
	access_log off; client_body_temp_path body; proxy_temp_path temp;
	fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
	proxy_cache_path cache keys_zone=all:10m max_size=1000g use_temp_path=off;
	server { listen %s:%s; location / { %s } }
}
`, address(i), port, content)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	nginx, err := process.Program("nginx")
	if err != nil {
		return nil, err
	}
	p, err := t.net.start(ctx, i, nginx, "-p", dir+"/", "-e", "stderr", "-c", conf)
	if err != nil {
		return nil, err
	}
	return &node{process: p}, t.listening(ctx, p, i)
}

// listening waits until a program that does not log it listens on a node's port.
func (t *trial) listening(ctx context.Context, p *process.Process, i int) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if listens(p) {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.Ended():
			return fmt.Errorf("the server of node %d has ended: %s", i, p.Log())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// listens reports whether a program listens on the servers' port in the namespace of a
// process.
func listens(p *process.Process) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", p.ID()))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		// The local address and port in hexadecimal, the remote one, and the state of
		// listening; 8000 is 1F40, and addresses of the lab are 10.177.x.y.
		fields := strings.Fields(line)
		if len(fields) > 3 && strings.HasSuffix(fields[1], "B10A:1F40") && fields[3] == "0A" {
			return true
		}
	}
	return false
}

// joining fetches from nginx: shards, one after the other, are the file.
const joining = `aria2c "$@" && for f in "$0"/[0-9]*; do cat "$f" >>"$0/out.bin" && rm "$f"; done`

// startAria starts a client that fetches all shards.
func startAria(ctx context.Context, t *trial, i int, dir string) (*node, error) {
	m, err := readManifest(filepath.Join(t.stock, "v1", "manifest.json"))
	if err != nil {
		return nil, err
	}
	list := new(strings.Builder)
	for n := 1; n <= len(m.Shards); n++ {
		for _, server := range t.servers(i) {
			fmt.Fprintf(list, "http://%s/v1/%s\t", server, shard.FileName(n))
		}
		fmt.Fprintf(list, "\n out=%08d\n checksum=sha-256=%s\n", n, m.Shards[n-1])
	}
	input := filepath.Join(dir, "input")
	if err := os.WriteFile(input, []byte(list.String()), 0o600); err != nil {
		return nil, err
	}
	args := []string{"-ec", joining, dir, "-i", input, "-d", dir, "-j", "10", "-s", "1", "-x", "1"}
	p, err := t.net.start(ctx, i, "sh", append(args, ariaQuiet()...)...)
	if err != nil {
		return nil, err
	}
	return &node{process: p, output: filepath.Join(dir, "out.bin"), held: p.Wait}, nil
}

// ariaQuiet are the arguments of every aria2c.
func ariaQuiet() []string {
	return []string{
		"--no-conf", "--async-dns=false", "--disable-ipv6", "--file-allocation=none", "--summary-interval=0",
		"--show-console-readout=false", "--download-result=hide", "--enable-color=false", "--auto-save-interval=0",
	}
}
