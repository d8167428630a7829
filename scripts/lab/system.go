package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/process"
)

// A system brings files to nodes.
type system struct {
	name, story string
	needs       []string // programs that it runs

	// start starts what runs on a node of a trial, with dir for its files. It returns
	// when servers can be asked, and does not wait for the file.
	start func(ctx context.Context, t *trial, i int, dir string) (*node, error)
}

func (s system) called() string { return s.name }

// systems are all there are.
func systems() []system {
	return []system{
		{"shardcast", "shards by HTTP, middles pass on what arrives", nil, startShardcast},
		{
			"swarm", "shardcast with --swarm: nodes that fetch from the same server swap shards", nil,
			startSwarm,
		},
		{
			"nginx", "nginx and aria2c, ten shards at a time, each checked by SHA-256 and then joined; middles are nginx with proxy_cache and proxy_cache_lock",
			[]string{"nginx", "aria2c"},
			startNginx,
		},
		{
			"bittorrent", "aria2c with a tracker on the origin, and all other nodes as peers, whatever they are in the scenario; aria2c checks each piece",
			[]string{"aria2c"},
			startTorrent,
		},
	}
}

// port is where servers listen.
const port = "8000"

// program is how to call a program that an administrator's path has.
func program(name string) string {
	if sbin := "/usr/sbin/" + name; name == "nginx" {
		if _, err := os.Stat(sbin); err == nil {
			return sbin
		}
	}
	return name
}

// prepare makes the file and what origins serve of it, once for all trials.
func (l *lab) prepare(ctx context.Context) (err error) {
	if l.file, err = file.Random(ctx, filepath.Join(l.dir, "file.bin"), l.size, l.seed); err != nil {
		return err
	}
	l.stock = filepath.Join(l.dir, "stock")
	p, err := process.Start(ctx, l.command("origin"), "broadcast", l.file.Name, "--data-dir", l.stock,
		"--shard-size", strconv.FormatInt(int64(l.shardSize), 10), "--log-level", "WARNING")
	if err != nil {
		return err
	}
	if _, err = p.Wait(); err != nil {
		return err
	}
	text, err := torrent(l.file, announce())
	if err != nil {
		return err
	}
	return os.WriteFile(l.torrentFile(), text, 0o600)
}

// command is one of shardcast's.
func (l *lab) command(role string) string { return filepath.Join(l.bin, "shardcast-"+role) }

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
		}, t.clientArgs...)
		p, err := t.net.start(ctx, i, t.command("client"), args...)
		if err != nil {
			return nil, err
		}
		// Its path is printed when the file is there; the client may go on to serve it.
		return &node{Process: p, output: out, held: func() (time.Time, error) { return awaited(p, `(?m)^\S*out\.bin$`) }}, nil
	}
	args := append([]string{"--data-dir", t.stock, "--port", port}, t.originArgs...)
	role := "origin"
	if t.plan[i].role == middle {
		args = append([]string{"--upstream", servers, "--data-dir", filepath.Join(dir, "data"), "--port", port}, t.middleArgs...)
		role = "middle"
	}
	p, err := t.net.start(ctx, i, t.command(role), args...)
	if err != nil {
		return nil, err
	}
	_, err = p.Await(`msg=listening`)
	return &node{Process: p, held: func() (time.Time, error) { return awaited(p, `msg=fetched`) }}, err
}

// startSwarm is startShardcast with a swarm at each server and for each node. A client goes
// on serving, as somebody who is through with it would.
func startSwarm(ctx context.Context, t *trial, i int, dir string) (*node, error) {
	l, in := *t.lab, *t
	in.lab = &l
	in.originArgs = append([]string{"--swarm"}, t.originArgs...)
	in.middleArgs = append([]string{"--swarm"}, t.middleArgs...)
	in.clientArgs = append([]string{"--swarm", "--port", port, "--seed-for", "1h"}, t.clientArgs...)
	return startShardcast(ctx, &in, i, dir)
}

// awaited waits until a process writes what matches pattern, and returns when it did.
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
		content = "proxy_pass http://" + t.servers(i)[0] + "; proxy_http_version 1.1; proxy_set_header Connection ''; " +
			"proxy_cache all; proxy_cache_valid 200 1h; proxy_ignore_headers Cache-Control; " +
			"proxy_cache_lock on; proxy_cache_lock_timeout 1h; proxy_cache_lock_age 1h; sendfile on; tcp_nopush on;"
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`
daemon off; master_process off; user root; pid nginx.pid; error_log stderr warn;
events { worker_connections 4096; }
http {
	access_log off; client_body_temp_path body; proxy_temp_path temp; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
	proxy_cache_path cache keys_zone=all:10m max_size=1000g use_temp_path=off;
	server { listen %s:%s; location / { %s } }
}
`, address(i), port, content)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p, err := t.net.start(ctx, i, program("nginx"), "-p", dir+"/", "-e", "stderr", "-c", conf)
	if err != nil {
		return nil, err
	}
	return &node{Process: p}, t.listening(ctx, p, i)
}

// listening waits until a program that does not say so listens on a node's port.
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

// listens reports whether anything listens on the servers' port in the namespace of a
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

// joining is what a client does with nginx: shards, one after the other, are the file.
const joining = `aria2c "$@" && for f in "$0"/[0-9]*; do cat "$f" >>"$0/out.bin" && rm "$f"; done`

// startAria starts a client that fetches all shards.
func startAria(ctx context.Context, t *trial, i int, dir string) (*node, error) {
	f, err := os.Open(filepath.Join(t.stock, "v1", "manifest.json"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := shard.ParseManifest(f)
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
	p, err := t.net.start(ctx, i, "sh", append([]string{"-ec", joining, dir, "-i", input, "-d", dir, "-j", "10", "-s", "1", "-x", "1"}, ariaQuiet()...)...)
	if err != nil {
		return nil, err
	}
	return &node{Process: p, output: filepath.Join(dir, "out.bin"), held: p.Wait}, nil
}

// ariaQuiet are the arguments that all aria2c have.
func ariaQuiet() []string {
	return []string{
		"--no-conf", "--async-dns=false", "--disable-ipv6", "--file-allocation=none", "--summary-interval=0",
		"--show-console-readout=false", "--download-result=hide", "--enable-color=false", "--auto-save-interval=0",
	}
}
