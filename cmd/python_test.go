package cmd_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/zeebo/blake3"
)

// dialect is the form of names and lines in a series of the Python package. Its origin,
// middle and client have stand-ins below, made from their visible behaviour, and not from
// their code.
type dialect struct {
	digits int  // of a shard's number in its name
	counts bool // distribution.txt must have the number of shards
	probe  bool // clients first measure each server by its data1.bin
	digest func() hash.Hash
}

var dialects = map[string]dialect{
	"0.1":  {digits: 3, digest: sha256.New},
	"0.1c": {digits: 3, digest: sha256.New, counts: true}, // some builds of it
	"0.2":  {digits: 5, digest: sha256.New, counts: true, probe: true},
	"0.3":  {digits: 5, digest: func() hash.Hash { return blake3.New() }, counts: true, probe: true},
}

func dialectOf(ts *testscript.TestScript, name string) dialect {
	d, ok := dialects[name]
	if !ok {
		ts.Fatalf("there is no dialect %s", name)
	}
	return d
}

// shardName returns the name of a version's shard, the first of which is 1.
func (d dialect) shardName(version string, number int) string {
	return fmt.Sprintf("%s/shard_%0*d.bin", version, d.digits, number)
}

// line returns the line of a version in distribution.txt.
func (d dialect) line(version, digest string, shards int) string {
	if d.counts {
		return fmt.Sprintf("%s: %s|%d\n", version, digest, shards)
	}
	return fmt.Sprintf("%s: %s\n", version, digest)
}

// pyProbe is the file by which clients measure servers.
const pyProbe = "data1.bin"

var pyLine = regexp.MustCompile(`(?m)^(v\d+): ([0-9a-f]{64})(?:\|(\d+))?\r?$`)

// pyEntry is a line of distribution.txt.
type pyEntry struct {
	version, digest string
	shards          int // 0 if the line lacks it
}

// parse returns the lines of a distribution.txt in the dialect, and refuses others.
func (d dialect) parse(text []byte) ([]pyEntry, error) {
	var entries []pyEntry
	for line := range strings.Lines(string(text)) {
		found := pyLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if found == nil || d.counts && found[3] == "" {
			return nil, fmt.Errorf("distribution.txt has the line %q", line)
		}
		e := pyEntry{version: found[1], digest: found[2]}
		e.shards, _ = strconv.Atoi(found[3])
		entries = append(entries, e)
	}
	return entries, nil
}

// pyData writes files as versions into a data directory, as the Python package's
// origin does.
func pyData(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: pydata DIR DIALECT SHARDSIZE FILE...")
	}
	dir, d := ts.MkAbs(args[0]), dialectOf(ts, args[1])
	size, err := strconv.Atoi(args[2])
	ts.Check(err)
	var distribution strings.Builder
	for i, file := range args[3:] {
		version := fmt.Sprintf("v%d", i+1)
		ts.Check(os.MkdirAll(filepath.Join(dir, version), 0o755))
		data := []byte(ts.ReadFile(file))
		digest := d.digest()
		digest.Write(data)
		number := 0
		for rest := data; len(rest) > 0; {
			number++
			part := rest[:min(size, len(rest))]
			rest = rest[len(part):]
			ts.Check(os.WriteFile(filepath.Join(dir, d.shardName(version, number)), part, 0o600))
		}
		distribution.WriteString(d.line(version, fmt.Sprintf("%x", digest.Sum(nil)), number))
	}
	ts.Check(os.WriteFile(filepath.Join(dir, "distribution.txt"), []byte(distribution.String()), 0o600))
	if d.probe {
		ts.Check(writeProbe(dir))
	}
}

func writeProbe(dir string) error {
	probe := make([]byte, 4096)
	_, _ = rand.NewChaCha8([32]byte{}).Read(probe)
	return os.WriteFile(filepath.Join(dir, pyProbe), probe, 0o600)
}

// pyServer serves a directory as the Python package does: HTTP/1.0, whole files
// without ETag or Range, and one connection at a time, however long that lasts.
type pyServer struct {
	dir      string
	listener net.Listener
	log      *journal // a line for each request

	mu    sync.Mutex // guards the fields below
	conn  net.Conn   // the only one
	ended bool
}

// servePython serves dir as name, with a log that scripts can await.
func servePython(ts *testscript.TestScript, name, dir string) *journal {
	l, err := net.Listen("tcp", cmp.Or(ts.Getenv(name), "127.0.0.1:0"))
	ts.Check(err)
	s := &pyServer{dir: dir, listener: l, log: newJournal()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve()
	}()
	ts.Defer(func() {
		s.stop()
		<-done
		ts.Logf("log of %s:\n%s", name, s.log)
	})
	worldOf(ts).servers[name] = &server{log: s.log}
	ts.Setenv(name, l.Addr().String())
	return s.log
}

func (s *pyServer) serve() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conn = conn
		if s.ended {
			_ = conn.Close()
		}
		s.mu.Unlock()
		s.answer(conn)
		_ = conn.Close()
	}
}

// stop ends the current connection, too.
func (s *pyServer) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	_ = s.listener.Close()
	if s.conn != nil {
		_ = s.conn.Close()
	}
}

// answer answers one request; the client judges the outcome.
func (s *pyServer) answer(conn net.Conn) {
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	name := filepath.Join(s.dir, filepath.FromSlash(path.Clean("/"+r.URL.Path)))
	f, err := os.Open(name)
	if err != nil {
		s.header(conn, r, http.StatusNotFound,
			"Connection: close\r\nContent-Type: text/html;charset=utf-8\r\nContent-Length: 0\r\n")
		return
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil || info.IsDir():
		s.header(conn, r, http.StatusNotFound, "Content-Length: 0\r\n")
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		s.header(conn, r, http.StatusNotImplemented, "Content-Length: 0\r\n")
		return
	}
	since, err := http.ParseTime(r.Header.Get("If-Modified-Since"))
	if err == nil && r.Header.Get("If-None-Match") == "" && !info.ModTime().Truncate(time.Second).After(since) {
		s.header(conn, r, http.StatusNotModified, "")
		return
	}
	kind := "application/octet-stream"
	if path.Ext(name) == ".txt" {
		kind = "text/plain"
	}
	s.header(conn, r, http.StatusOK, fmt.Sprintf("Content-type: %s\r\nContent-Length: %d\r\nLast-Modified: %s\r\n",
		kind, info.Size(), info.ModTime().UTC().Format(http.TimeFormat)))
	if r.Method == http.MethodGet {
		_, _ = io.Copy(conn, f)
	}
}

func (s *pyServer) header(w io.Writer, r *http.Request, status int, fields string) {
	fmt.Fprintf(s.log, "%s %s %d\n", r.Method, r.URL, status)
	fmt.Fprintf(w, "HTTP/1.0 %d %s\r\nServer: SimpleHTTP/0.6 Python/3.11.2\r\nDate: %s\r\n"+
		"%sAccess-Control-Allow-Origin: *\r\n\r\n",
		status, http.StatusText(status), time.Now().UTC().Format(http.TimeFormat), fields)
}

func pyOrigin(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: pyorigin NAME DIR")
	}
	servePython(ts, args[0], ts.MkAbs(args[1]))
}

// pyFetcher fetches as the Python package's client does.
type pyFetcher struct {
	dialect

	servers []string // base URLs
}

func newPyFetcher(ts *testscript.TestScript, dialect, servers string) *pyFetcher {
	p := &pyFetcher{dialect: dialectOf(ts, dialect)}
	for server := range strings.SplitSeq(servers, ",") {
		if !strings.Contains(server, "://") {
			server = "http://" + server
		}
		p.servers = append(p.servers, server)
	}
	return p
}

// pyTimeout bounds the silence of a server.
const pyTimeout = 30 * time.Second

// A shard has pyAttempts attempts, pyInterval apart.
const (
	pyAttempts = 3
	pyInterval = 2 * time.Second
)

// get fetches a file over a connection of its own.
func (p *pyFetcher) get(ctx context.Context, server, name string) ([]byte, error) {
	u, err := url.Parse(server + "/" + name)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: pyTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	const request = "GET %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: python\r\nAccept: */*\r\n\r\n"
	if _, err := fmt.Fprintf(conn, request, u.RequestURI(), u.Host); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(impatient{conn}), nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", u, err)
	case resp.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("%s: %w", u, fs.ErrNotExist)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: %s", u, resp.Status)
	case resp.TransferEncoding != nil || resp.Header.Get("Content-Encoding") != "":
		return nil, fmt.Errorf("%s: HTTP/1.0 has no encodings: %v", u, resp.Header)
	}
	return body, nil
}

// impatient is a connection with a bound on its silence.
type impatient struct{ net.Conn }

func (i impatient) Read(b []byte) (int, error) {
	if err := i.SetReadDeadline(time.Now().Add(pyTimeout)); err != nil {
		return 0, err
	}
	return i.Conn.Read(b)
}

// measure asks every server for the probe, if the dialect has one. All of them must
// have it.
func (p *pyFetcher) measure(ctx context.Context) error {
	if !p.probe {
		return nil
	}
	for _, server := range p.servers {
		if _, err := p.get(ctx, server, pyProbe); err != nil {
			return err
		}
	}
	return nil
}

// fromAny fetches a file from one of the servers, and from another one if that fails. One
// that may be missing is not asked for again.
func (p *pyFetcher) fromAny(ctx context.Context, name string, mayMiss bool) ([]byte, error) {
	var failed []error
	for {
		body, err := p.get(ctx, p.servers[rand.IntN(len(p.servers))], name)
		if err == nil || mayMiss && errors.Is(err, fs.ErrNotExist) {
			return body, err
		}
		if failed = append(failed, err); len(failed) == pyAttempts {
			return nil, errors.Join(failed...)
		}
		select {
		case <-time.After(pyInterval):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// versions returns the versions on offer, and the text that lists them.
func (p *pyFetcher) versions(ctx context.Context) ([]pyEntry, []byte, error) {
	text, err := p.fromAny(ctx, "distribution.txt", false)
	if err != nil {
		return nil, nil, err
	}
	entries, err := p.parse(text)
	return entries, text, err
}

// fetch fetches a version's shards, and keeps each under its name. Where their number is
// unknown, the first missing one is the end.
func (p *pyFetcher) fetch(ctx context.Context, e pyEntry, keep func(name string, shard []byte) error) error {
	digest := p.digest()
	counted := p.counts || e.shards > 0
	for number := 1; !counted || number <= e.shards; number++ {
		name := p.shardName(e.version, number)
		shard, err := p.fromAny(ctx, name, !counted)
		if errors.Is(err, fs.ErrNotExist) && !counted {
			break
		}
		if err != nil {
			return err
		}
		digest.Write(shard)
		if err := keep(name, shard); err != nil {
			return err
		}
	}
	if got := fmt.Sprintf("%x", digest.Sum(nil)); got != e.digest {
		return fmt.Errorf("the digest of %s is %s instead of %s", e.version, got, e.digest)
	}
	return nil
}

func pyClient(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: [!] pyclient DIALECT SERVER,... VERSION OUTPUT")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	data, err := newPyFetcher(ts, args[0], args[1]).download(ctx, args[2])
	if err != nil {
		fmt.Fprintln(ts.Stderr(), err)
	}
	switch {
	case neg && err == nil:
		ts.Fatalf("the download has succeeded")
	case !neg && err != nil:
		ts.Fatalf("%v", err)
	case err == nil:
		ts.Check(os.WriteFile(ts.MkAbs(args[3]), data, 0o600))
	}
}

func (p *pyFetcher) download(ctx context.Context, version string) ([]byte, error) {
	if err := p.measure(ctx); err != nil {
		return nil, err
	}
	entries, text, err := p.versions(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.version != version {
			continue
		}
		var file bytes.Buffer
		err := p.fetch(ctx, e, func(_ string, shard []byte) error {
			file.Write(shard)
			return nil
		})
		return file.Bytes(), err
	}
	return nil, fmt.Errorf("%s is not in %q", version, text)
}

// pyMiddle keeps the versions of its upstream in a directory, and serves it.
type pyMiddle struct {
	*pyFetcher

	dir  string
	log  *journal
	seen string // the text of distribution.txt, once all of its versions are fetched
}

// pyCheck is the time between two looks at the upstream; the Python package waits longer.
const pyCheck = 100 * time.Millisecond

func startPyMiddle(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: pymiddle NAME DIALECT UPSTREAM")
	}
	name := args[0]
	m := &pyMiddle{pyFetcher: newPyFetcher(ts, args[1], args[2]), dir: ts.MkAbs(name)}
	ts.Check(os.MkdirAll(m.dir, 0o755))
	if m.probe {
		ts.Check(writeProbe(m.dir))
	}
	m.log = servePython(ts, name, m.dir)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.follow(ctx)
	}()
	ts.Defer(func() {
		cancel()
		<-done
	})
}

func (m *pyMiddle) follow(ctx context.Context) {
	said := ""
	for ctx.Err() == nil {
		if err := m.mirror(ctx); err != nil && err.Error() != said {
			said = err.Error()
			fmt.Fprintln(m.log, said)
		}
		select {
		case <-time.After(pyCheck):
		case <-ctx.Done():
		}
	}
}

// mirror fetches the versions on offer. It lists a version before it has its first shard,
// as Python's middle does.
func (m *pyMiddle) mirror(ctx context.Context) error {
	if err := m.measure(ctx); err != nil {
		return err
	}
	entries, text, err := m.versions(ctx)
	if err != nil || string(text) == m.seen {
		return err
	}
	if err := os.WriteFile(filepath.Join(m.dir, "distribution.txt"), text, 0o600); err != nil {
		return err
	}
	for _, e := range entries {
		if strings.Contains(m.seen, e.digest) {
			continue
		}
		if err := os.MkdirAll(filepath.Join(m.dir, e.version), 0o755); err != nil {
			return err
		}
		err := m.fetch(ctx, e, func(name string, shard []byte) error {
			return os.WriteFile(filepath.Join(m.dir, name), shard, 0o600)
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(m.log, "fetched %s\n", e.version)
	}
	m.seen = string(text)
	return nil
}
