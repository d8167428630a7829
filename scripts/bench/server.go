//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/flags"
	"github.com/shardcast/shardcast/scripts/internal/process"
)

// A server runs on loopback, on a port that was free.
type server struct {
	process *process.Process
	address string      // host:port
	over    *tls.Config // or nil for plain HTTP
	dir     string      // its own, and removed with it; empty for commands of ours
}

// Kill ends the server and removes its directory.
func (s *server) Kill() {
	s.process.Kill()
	_ = os.RemoveAll(s.dir) // and if not, with all the rest
}

// listening is the line of a server of ours that listens.
const listening = `msg=listening addr=(\S+)`

// origin starts an origin of a published version.
func (b *bench) origin(ctx context.Context, v version) (*server, error) {
	data, err := b.own(ctx, v)
	if err != nil {
		return nil, err
	}
	return b.serve(ctx, "origin", data)
}

// serve starts a command of ours.
func (b *bench) serve(ctx context.Context, role, data string, args ...string) (*server, error) {
	args = append([]string{"--data-dir", data, "--host", "127.0.0.1", "--port", "0"}, args...)
	p, err := process.StartIn(ctx, b.dir, nil, b.command(role), args...)
	if err != nil {
		return nil, err
	}
	s := &server{process: p}
	if s.address, err = p.Await(listening); err != nil {
		p.Kill()
		return nil, err
	}
	return s, nil
}

// nginx is the path of the program, or "".
func nginx() string {
	path, _ := process.Program("nginx")
	return path
}

// nginxConfig has after "http {" its maker's advice for static files, and leaves out the
// access log.
const nginxConfig = `daemon off;
%s
pid nginx.pid;
error_log stderr;
worker_processes auto;
worker_rlimit_nofile 8192;
events { worker_connections 4096; }
http {
	access_log off;
	sendfile on;
	tcp_nopush on;
	keepalive_timeout 600;
	keepalive_requests 1000000;
	client_body_temp_path t1;
	proxy_temp_path t2;
	fastcgi_temp_path t3;
	uwsgi_temp_path t4;
	scgi_temp_path t5;
	%s
	server {
		listen %s;
		%s
	}
}
`

// nginx starts one with lines for its http and server blocks.
func (b *bench) nginx(ctx context.Context, httpBlock, serverBlock string) (*server, error) {
	dir, err := os.MkdirTemp(b.dir, "nginx-")
	if err != nil {
		return nil, err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // or its workers cannot read here
	}
	config := fmt.Sprintf(nginxConfig, user, httpBlock, address, serverBlock)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	p, err := process.StartIn(ctx, dir, nil, nginx(), "-p", dir, "-c", "nginx.conf", "-e", "stderr")
	if err != nil {
		return nil, err
	}
	s := &server{process: p, address: address, dir: dir}
	if err := reachable(ctx, p, address); err != nil {
		s.Kill()
		return nil, err
	}
	return s, nil
}

// static is the server block of nginx for a data directory.
func static(data string) string { return "root " + data + ";" }

// freeAddress is an address that was free a moment ago.
func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// reachable waits until p listens.
func reachable(ctx context.Context, p *process.Process, address string) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for range 1000 {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-p.Ended():
			return p.Failed(fmt.Errorf("it does not listen: %w", err))
		}
	}
	return p.Failed(fmt.Errorf("it does not listen on %s", address))
}

// A version is a published file.
type version struct {
	file      file.File
	data      string // directory
	shardSize flags.Bytes
	paths     []string // of its shards in URLs, in their order
}

// main is the file of most parts, made for the first of them.
func (b *bench) main(ctx context.Context) (f file.File, err error) {
	if b.file.Name == "" {
		b.file, err = b.makeFile(ctx, "file.bin", b.flags.size)
	}
	return b.file, err
}

// version is that file published.
func (b *bench) version(ctx context.Context) (v version, err error) {
	f, err := b.main(ctx)
	if err == nil && b.made.data == "" {
		b.made, err = b.published(ctx, f, filepath.Join(b.dir, "main"), b.flags.shardSize)
	}
	return b.made, err
}

// own is the data directory of a published version for one set of commands, each of which
// locks its own. That of the base is made when it is first needed.
func (b *bench) own(ctx context.Context, v version) (string, error) {
	if b.of == "" {
		return v.data, nil
	}
	data := v.baseData()
	if _, err := os.Stat(data); err == nil {
		return data, nil
	}
	_, err := b.published(ctx, v.file, data, v.shardSize)
	return data, err
}

// baseData is the data directory for the base commands.
func (v version) baseData() string { return v.data + "-base" }

// remove removes the data directories.
func (v version) remove() error { return errors.Join(os.RemoveAll(v.data), os.RemoveAll(v.baseData())) }

// published publishes f in a new directory.
func (b *bench) published(ctx context.Context, f file.File, data string, shardSize flags.Bytes) (v version, err error) {
	v = version{file: f, data: data, shardSize: shardSize}
	if _, out, err := measured(ctx, int64(f.Size), b.dir, nil, b.command("origin"), "broadcast", f.Name,
		"--data-dir", data, "--shard-size", fmt.Sprint(int64(shardSize)), "--log-level", "WARNING"); err != nil {
		return v, err
	} else if strings.TrimSpace(out) != "v1" {
		return v, fmt.Errorf("broadcast printed %q", out)
	}
	// Longer names have higher numbers, and glob sorts those of equal length.
	for _, digits := range []string{"???", "????", "?????", "??????"} {
		found, err := filepath.Glob(filepath.Join(data, "v1", "shard_"+digits+".bin"))
		if err != nil {
			return v, err
		}
		for _, name := range found {
			v.paths = append(v.paths, "/v1/"+filepath.Base(name))
		}
	}
	if len(v.paths) == 0 {
		return v, fmt.Errorf("there are no shards in %s", data)
	}
	return v, nil
}
