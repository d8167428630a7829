//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardcast/shardcast/scripts/internal/flags"
)

// many is the number of downloads from which on they are read for longer.
const many = 100

// servePart measures the cost of sending.
func (b *bench) servePart(ctx context.Context) error {
	v, err := b.version(ctx)
	if err != nil {
		return err
	}
	for _, n := range b.flags.levels {
		l := load{paths: v.paths, readers: n, span: b.flags.span}
		if n > many { // which takes them a while to begin
			l.span *= 4
		}
		name, title := fmt.Sprintf("serve-%d", n), fmt.Sprintf("%d concurrent downloads", n)
		if err := b.serveTable(ctx, name, title, v, l); err != nil {
			return err
		}
	}
	l := load{paths: v.paths, readers: 10, idle: b.flags.idle, span: b.flags.span}
	name := fmt.Sprintf("serve-10-idle-%d", b.flags.idle)
	title := fmt.Sprintf("beside %d idle connections, 10 concurrent downloads", b.flags.idle)
	return b.serveTable(ctx, name, title, v, l)
}

// serveTable measures one load on all servers, which it starts.
func (b *bench) serveTable(ctx context.Context, name, title string, v version, l load) error {
	var tools []tool
	for _, side := range b.sides() {
		origin, err := side.origin(ctx, v)
		if err != nil {
			return err
		}
		defer origin.Kill()
		tools = append(tools, reading(side.of+"shardcast-origin", Ours, l, origin))
	}
	if nginx() == "" {
		tools = append(tools, reading("nginx, sendfile", Other, l, nil))
	} else {
		n, err := b.nginx(ctx, "", static(v.data))
		if err != nil {
			return err
		}
		defer n.Kill()
		tools = append(tools, reading("nginx, sendfile", Other, l, n))
	}
	t := &Table{
		Name: name, Key: CPURate,
		Title: fmt.Sprintf("%s of shards of %s, for %s", title, b.flags.shardSize.String(), l.span),
	}
	return b.table(ctx, t, tools)
}

// reading is a row of a load on a server.
func reading(name string, role Role, l load, s *server) tool {
	l.server = s
	var needs []string
	if role == Other {
		needs = []string{"nginx"}
	}
	return tool{name, role, needs, func(ctx context.Context, _ string) (Sample, error) { return l.run(ctx) }}
}

// fetched is the line of a middle that holds a version.
const fetched = `msg=fetched version=v1`

// Rows of a relay that one reader reads from.
const (
	relayed = "shardcast-middle, read by one"
	cached  = "nginx proxy_cache, read by one"
)

// relayPart measures the cost of relaying.
func (b *bench) relayPart(ctx context.Context) error {
	v, err := b.version(ctx)
	if err != nil {
		return err
	}
	t := &Table{
		Name: "relay", Key: CPURate, Limit: openssl,
		Title: fmt.Sprintf("%s in shards of %s, what the relay takes",
			v.file.Size.String(), b.flags.shardSize.String()),
	}
	var tools []tool
	origins := make([]*server, 0, 2)
	for _, side := range b.sides() {
		origin, err := side.origin(ctx, v)
		if err != nil {
			return err
		}
		defer origin.Kill()
		origins = append(origins, origin)
		through := func(paths []string) func(context.Context, string) (Sample, error) {
			return func(ctx context.Context, dir string) (Sample, error) {
				return side.throughMiddle(ctx, dir, origin.address, paths)
			}
		}
		tools = append(tools, tool{side.of + "shardcast-middle", Ours, nil, through(nil)},
			tool{side.of + relayed, Ours, nil, through(v.paths)})
	}
	cache := func(ctx context.Context, dir string) (Sample, error) {
		return b.throughNginx(ctx, dir, origins[0].address, v.paths)
	}
	once := b.shell(openssl, Part, v.file.Size, []string{"FILE=" + v.file.Name}, v.file.Digest.String(),
		`exec openssl dgst -sha256 "$FILE"`, "openssl")
	return b.table(ctx, t, append(tools, tool{cached, Part, []string{"nginx"}, cache}, once))
}

// throughMiddle has a new middle fetch a version, and a reader read paths from it as
// soon as the middle lists that.
func (b *bench) throughMiddle(ctx context.Context, dir, origin string, paths []string) (Sample, error) {
	ctx, cancel := bounded(ctx, int64(b.flags.size))
	defer cancel()
	begin := time.Now()
	m, err := b.serve(ctx, "middle", filepath.Join(dir, "data"), "--upstream", origin)
	if err != nil {
		return nil, err
	}
	defer m.Kill()
	if len(paths) > 0 {
		if err := listed(ctx, m.address); err != nil {
			return nil, err
		}
		if err := readAll(ctx, m.address, paths); err != nil {
			return nil, err
		}
	}
	if _, err := m.process.Await(fetched); err != nil {
		return nil, err
	}
	return m.took(begin, b.flags.size)
}

// listed waits until a server lists a version.
func listed(ctx context.Context, address string) error {
	conn, err := connect(ctx, address)
	if err != nil {
		return err
	}
	defer conn.hangUp()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := conn.ask("/distribution.txt", "")
		if err != nil {
			return err
		}
		text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
		if resp.StatusCode == http.StatusOK && len(text) > 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// throughNginx has a reader read paths from an empty cache.
func (b *bench) throughNginx(ctx context.Context, dir, origin string, paths []string) (Sample, error) {
	ctx, cancel := bounded(ctx, int64(b.flags.size))
	defer cancel()
	begin := time.Now()
	n, err := b.nginx(ctx, "proxy_cache_path "+filepath.Join(dir, "cache")+" keys_zone=z:1m use_temp_path=off;",
		"location / { proxy_pass http://"+origin+"; proxy_cache z; proxy_cache_valid 200 1h; "+
			"proxy_http_version 1.1; proxy_set_header Connection \"\"; }")
	if err != nil {
		return nil, err
	}
	defer n.Kill()
	if err := readAll(ctx, n.address, paths); err != nil {
		return nil, err
	}
	return n.took(begin, b.flags.size)
}

// took is the cost of a server since its start.
func (s *server) took(begin time.Time, size flags.Bytes) (Sample, error) {
	wall := time.Since(begin)
	seconds, err := cpu(s.process)
	return Sample{Wall: wall.Seconds(), CPU: seconds, Peak: s.process.Peak()}.add(int64(size)), err
}

// readAll reads paths one after the other.
func readAll(ctx context.Context, address string, paths []string) error {
	conn, err := connect(ctx, address)
	if err != nil {
		return err
	}
	defer conn.hangUp()
	buf := make([]byte, readSize)
	for _, path := range paths {
		if err := conn.get(path, buf, func(int) {}); err != nil {
			return err
		}
	}
	return nil
}

const (
	// hold in seconds is the time for which clients that wait for a version ask a server to
	// hold their requests. They have settle to come to that.
	hold   = 60
	settle = 500 * time.Millisecond

	// tiny in bytes is a version whose transfer takes next to no time.
	tiny flags.Bytes = 100_000
)

// versionsPart measures how soon a server answers clients that wait for a version.
func (b *bench) versionsPart(ctx context.Context) (err error) {
	f, err := b.makeFile(ctx, "tiny.bin", tiny)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name)) }()
	t := &Table{
		Name: "versions", Key: Wall,
		Title: fmt.Sprintf("from a new version to the last of %d answers that were held, with %d versions listed",
			b.flags.waiting, b.flags.versions),
	}
	var tools []tool
	for i, side := range b.sides() {
		data := filepath.Join(b.dir, fmt.Sprint("data", i))
		defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
		w, err := side.waiting(ctx, f.Name, data)
		if err != nil {
			return err
		}
		defer w.server.Kill()
		tools = append(tools, tool{side.of + "shardcast-origin", Ours, nil, w.tool})
	}
	return b.table(ctx, t, tools)
}

// waiting starts an origin on data with as many versions of a file as it keeps, and
// returns a crowd for it.
func (b *bench) waiting(ctx context.Context, name, data string) (w waiting, err error) {
	versions := fmt.Sprint(b.flags.versions)
	publish := func(ctx context.Context) error {
		_, _, err := measured(ctx, int64(tiny), b.dir, nil, b.command("origin"), "broadcast", name,
			"--data-dir", data, "--max-versions", versions, "--log-level", "WARNING")
		return err
	}
	for range b.flags.versions {
		if err := publish(ctx); err != nil {
			return w, err
		}
	}
	origin, err := b.serve(ctx, "origin", data, "--max-versions", versions)
	list := filepath.Join(data, "distribution.txt")
	return waiting{server: origin, list: list, clients: b.flags.waiting, publish: publish}, err
}

// A waiting is a crowd that waits for the next version.
type waiting struct {
	server  *server
	list    string // distribution.txt in the data directory
	clients int
	publish func(context.Context) error
}

// tool is run as a row has it.
func (w waiting) tool(ctx context.Context, _ string) (Sample, error) {
	ctx, cancel := bounded(ctx, 0)
	defer cancel()
	return w.run(ctx)
}

// run has the crowd ask, publishes, and returns the cost from the change of the list on
// the disk until the server has answered all of them.
func (w waiting) run(ctx context.Context) (Sample, error) {
	before, err := os.ReadFile(w.list)
	if err != nil {
		return nil, err
	}
	tag, err := w.tag(ctx)
	if err != nil {
		return nil, err
	}
	var received atomic.Int64
	answered := make([]time.Time, w.clients)
	failed := make([]error, w.clients)
	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // before the wait for them
	for i := range w.clients {
		conn, err := connect(ctx, w.server.address)
		if err != nil {
			return nil, err
		}
		conn = newConnection(counted{conn.Conn, &received})
		group.Go(func() { answered[i], failed[i] = w.wait(conn, tag, before) })
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	cpuBefore, err := cpu(w.server.process)
	if err != nil {
		return nil, err
	}
	changed := make(chan time.Time, 1)
	group.Go(func() { changed <- w.changed(ctx, before) })
	if err := w.publish(ctx); err != nil {
		return nil, err
	}
	begin := <-changed
	group.Wait()
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	cpuAfter, err := cpu(w.server.process)
	if err != nil {
		return nil, err
	}
	first, last := slices.MinFunc(answered, time.Time.Compare), slices.MaxFunc(answered, time.Time.Compare)
	if first.Before(begin) { // an answer came before the look at the disk
		begin = first
	}
	return Sample{
		Wall: last.Sub(begin).Seconds(), CPU: cpuAfter - cpuBefore, Peak: w.server.process.Peak(),
		Wire: float64(received.Load()) / 1e6,
	}, nil
}

// tag is the ETag of the served list.
func (w waiting) tag(ctx context.Context) (string, error) {
	conn, err := connect(ctx, w.server.address)
	if err != nil {
		return "", err
	}
	defer conn.hangUp()
	resp, err := conn.ask("/distribution.txt", "")
	if err != nil {
		return "", err
	}
	return resp.Header.Get("ETag"), resp.Body.Close()
}

// wait asks for a list other than before, and returns the time of the answer.
func (w waiting) wait(conn *connection, tag string, before []byte) (time.Time, error) {
	header := fmt.Sprintf("If-None-Match: %s\r\nPrefer: wait=%d\r\n", tag, hold)
	resp, err := conn.ask("/distribution.txt", header)
	if err != nil {
		return time.Time{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && (resp.StatusCode != http.StatusOK || bytes.Equal(text, before)) {
		err = fmt.Errorf("the server did not hold a request, and answered %s", strings.TrimSpace(resp.Status))
	}
	return time.Now(), err
}

// changed returns the time at which the list on the disk is another than before.
func (w waiting) changed(ctx context.Context, before []byte) time.Time {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		if text, err := os.ReadFile(w.list); err == nil && !bytes.Equal(text, before) {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return time.Now()
}

// memoryPart measures the peak of each role, once. It comes last, because it removes the
// files of the other parts.
func (b *bench) memoryPart(ctx context.Context) (err error) {
	if err := errors.Join(os.RemoveAll(b.file.Name), b.made.remove()); err != nil {
		return err
	}
	f, err := b.makeFile(ctx, "large.bin", b.flags.memory)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name)) }()
	t := &Table{
		Name: "memory", Key: Peak,
		Title: fmt.Sprintf("%s in shards of %s, once", b.flags.memory.String(), b.flags.shardSize.String()),
	}
	for _, side := range b.sides() {
		if err := side.memory(ctx, t, f.Name); err != nil {
			return err
		}
	}
	b.report.Tables = append(b.report.Tables, t)
	return nil
}

// memory adds the rows of one set of commands.
func (b *bench) memory(ctx context.Context, t *Table, name string) (err error) {
	ctx, cancel := bounded(ctx, 4*int64(b.flags.memory))
	defer cancel()
	add := func(role string, s Sample) {
		t.Rows = append(t.Rows, &Row{Tool: b.of + role, Role: Ours, Samples: make(map[Metric][]float64)})
		t.Rows[len(t.Rows)-1].add(s)
	}
	size := int64(b.flags.memory)
	data, relayed, out := filepath.Join(b.dir, "data"), filepath.Join(b.dir, "relayed"), filepath.Join(b.dir, "out")
	defer func() { err = errors.Join(err, os.RemoveAll(data), os.RemoveAll(relayed), os.RemoveAll(out)) }()

	s, _, err := measured(ctx, size, b.dir, nil, b.command("origin"), "broadcast", name, "--data-dir", data,
		"--shard-size", fmt.Sprint(int64(b.flags.shardSize)))
	if err != nil {
		return err
	}
	add(broadcast, s)
	begin := time.Now()
	origin, err := b.serve(ctx, "origin", data)
	if err != nil {
		return err
	}
	defer origin.Kill()
	beginMiddle := time.Now()
	middle, err := b.serve(ctx, "middle", relayed, "--upstream", origin.address)
	if err != nil {
		return err
	}
	defer middle.Kill()
	if _, err := middle.process.Await(fetched); err != nil {
		return err
	}
	if s, err = origin.took(begin, b.flags.memory); err != nil {
		return err
	}
	add("shardcast-origin, serving", s)
	if s, err = middle.took(beginMiddle, b.flags.memory); err != nil {
		return err
	}
	add("shardcast-middle, fetching", s)
	client, _, err := measured(ctx, size, b.dir, nil, b.command("client"), "--servers", middle.address,
		"--version", "v1", "--output-file", out, "--progress", "none")
	if err != nil {
		return err
	}
	if s, err = middle.took(beginMiddle, b.flags.memory); err != nil {
		return err
	}
	add("shardcast-middle, fetching and serving", s)
	add("shardcast-client", client)
	return nil
}
