package cmd_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// proxy stands before a server and spoils its answers by rules. Its journal has a line for
// each request: the path, before it the Range if there is one, as in
// "bytes=5-9 /v1/shard_001.bin", and before that "early" if a Retry-After of the proxy
// named a later time. A rule is FAULT=REGEXP, for the paths that match:
//
//	corrupt    one bit of the body is flipped
//	short      the body ends early, with a Content-Length to match, and without ranges
//	long       the body is too long, likewise
//	trailing   the body is too long, in chunks without a Content-Length
//	early      a range begins at a block of 64 KiB, before where it was requested
//	late       a range begins a byte behind where it was requested
//	page       a page in HTML, with status 200
//	gzip       the body is said to be encoded
//	cut        the connection ends in the middle of the body
//	cut:BYTES  the connection ends after BYTES of the body
//	half       half of the file comes, and the rest when the rules change
//	reset      the connection is reset before an answer
//	hang       no answer ever comes
//	missing    404
//	broken     500
//	busy       503
//	later      503, with Retry-After: 1
//	stall      all but a hundredth of the body comes, and then nothing
//	drip       one byte a second
//	rate:BYTES BYTES a second, for all requests under this rule together
//	elsewhere  a redirect to the server itself
//	hold       the answer waits until the rules change
//	through    no fault: request and answer go through with their headers, while they come, as a swarm needs
type proxy struct {
	upstream string
	client   *http.Client

	mu      sync.Mutex // guards the fields below
	rules   []rule
	changed chan struct{} // closed and replaced when the rules change
	later   time.Time     // requests before it are early
	paths   *journal      // a line for each request
}

// retryAfter is the Retry-After of the fault later.
const retryAfter = time.Second

type rule struct {
	fault string
	bytes int64
	path  *regexp.Regexp
	lane  *lane // of rate
}

// faults are the names of all faults.
var faults = []string{
	"corrupt", "short", "long", "cut", "half", "reset", "hang", "missing", "broken", "busy", "later", "stall", "drip",
	"rate", "elsewhere", "hold", "trailing", "early", "late", "page", "gzip", "through",
}

func parseRules(ts *testscript.TestScript, args []string) []rule {
	var rules []rule
	for _, arg := range args {
		fault, path, ok := strings.Cut(arg, "=")
		r := rule{}
		var number string
		var err error
		if r.fault, number, _ = strings.Cut(fault, ":"); number != "" {
			r.bytes, err = strconv.ParseInt(number, 10, 64)
			ts.Check(err)
		}
		r.path, err = regexp.Compile(path)
		if !ok || err != nil || !slices.Contains(faults, r.fault) {
			ts.Fatalf("bad rule %q: %v", arg, err)
		}
		r.lane = &lane{rate: r.bytes}
		rules = append(rules, r)
	}
	return rules
}

func startProxy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: proxy NAME UPSTREAM RULE...")
	}
	p := &proxy{
		upstream: args[1], rules: parseRules(ts, args[2:]), changed: make(chan struct{}), paths: newJournal(),
		client: &http.Client{
			Transport:     &http.Transport{},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	worldOf(ts).proxies[args[0]] = p
	ts.Setenv(args[0], listenAndServe(ts, p))
}

func static(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: static NAME DIR")
	}
	ts.Setenv(args[0], listenAndServe(ts, http.FileServer(http.Dir(ts.MkAbs(args[1])))))
}

func secure(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tls NAME DIR")
	}
	srv := httptest.NewTLSServer(http.FileServer(http.Dir(ts.MkAbs(args[1]))))
	ts.Defer(srv.Close)
	ts.Setenv(args[0], strings.TrimPrefix(srv.URL, "https://"))
}

func listenAndServe(ts *testscript.TestScript, handler http.Handler) string {
	srv := httptest.NewServer(handler)
	ts.Defer(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return strings.TrimPrefix(srv.URL, "http://")
}

func proxyOf(ts *testscript.TestScript, name string) *proxy {
	p, ok := worldOf(ts).proxies[name]
	if !ok {
		ts.Fatalf("there is no proxy %s", name)
	}
	return p
}

func setRules(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: rules NAME RULE...")
	}
	p := proxyOf(ts, args[0])
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = parseRules(ts, args[1:])
	close(p.changed)
	p.changed = make(chan struct{})
}

func asked(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: asked NAME REGEXP [COUNT]")
	}
	p := proxyOf(ts, args[0])
	count := countOf(ts, args[2:])
	if found := p.paths.waitFor(regexp.MustCompile("(?m:"+args[1]+")"), count); len(found) < count {
		ts.Fatalf("%s has not been asked for %s %d times, but for:\n%s", args[0], args[1], count, p.paths)
	}
}

func requests(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: requests NAME REGEXP COUNT")
	}
	p := proxyOf(ts, args[0])
	most, bound := strings.CutPrefix(args[2], "..")
	want := countOf(ts, []string{most})
	found := regexp.MustCompile("(?m:"+args[1]+")").FindAllString(p.paths.String(), -1)
	if len(found) > want || len(found) < want && !bound {
		ts.Fatalf("%s has %d requests for %s instead of %s:\n%s", args[0], len(found), args[1], args[2], p.paths)
	}
}

func answer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: answer METHOD URL [FIELD:VALUE...] REGEXP")
	}
	last := len(args) - 1
	name := "of " + strings.Join(args[:last], " ")
	request(ts, false, append([]string{name}, args[:last]...))
	answered(ts, false, []string{name, args[last]})
}

func request(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: request NAME METHOD URL [FIELD:VALUE...]")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	ts.Defer(cancel)
	req, err := http.NewRequestWithContext(ctx, args[1], args[2], http.NoBody)
	ts.Check(err)
	req.Close = true
	for _, field := range args[3:] {
		name, value, _ := strings.Cut(field, ":")
		if req.Header.Add(name, value); name == "Host" {
			req.Host = value
		}
	}
	sent := make(chan struct{})
	tell := sync.OnceFunc(func() { close(sent) })
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { tell() },
	}))
	text := make(chan string, 1)
	worldOf(ts).answers[args[0]] = text
	go func() {
		text <- answerTo(req)
		tell() // or it was never sent
	}()
	<-sent
}

// answerTo returns the answer to req, its header and the beginning of its body, or the
// text of the error.
func answerTo(req *http.Request) string {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	header, err := httputil.DumpResponse(resp, false)
	if err != nil {
		return err.Error()
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return err.Error()
	}
	return string(header) + string(body)
}

func answered(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: answered NAME REGEXP")
	}
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	text, ok := worldOf(ts).answers[args[0]]
	if !ok {
		ts.Fatalf("there is no request %s", args[0])
	}
	// The answer comes, or the request's own time ends.
	if text := <-text; !pattern.MatchString(text) {
		ts.Fatalf("the answer does not match %q:\n%q", args[1], text)
	}
}

func crowd(ts *testscript.TestScript, neg bool, args []string) {
	var from net.Addr
	if host, ok := strings.CutPrefix(args[0], "from="); ok {
		from, args = &net.TCPAddr{IP: net.ParseIP(host)}, args[1:]
	}
	if neg || len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: crowd [from=HOST] ADDRESS COUNT PATH [FIELD:VALUE]")
	}
	field := append(args[3:], "Accept:*/*")[0]
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	// A thousand readers with the buffers and the segments of loopback take so much of the kernel's
	// memory that Linux slows down all connections of the machine, those of other tests too.
	small := func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1400)
		})
	}
	dialer := net.Dialer{Control: small, LocalAddr: from}
	for i := range 2 * count {
		conn, err := dialer.Dial("tcp", args[0])
		ts.Check(err)
		ts.Defer(func() { _ = conn.Close() })
		if i%2 == 0 {
			_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: crowd\r\n%s\r\n\r\n", args[2], field)
			ts.Check(err)
			_, err = conn.Read(make([]byte, 1)) // the answer has begun
			ts.Check(err)
		}
	}
}

// note adds a request for path to the journal.
func (p *proxy) note(path string) {
	p.mu.Lock()
	early := time.Now().Before(p.later)
	p.mu.Unlock()
	if early {
		path = "early " + path
	}
	fmt.Fprintln(p.paths, path)
}

// ruleOf returns the rule for path, and a channel that closes when the rules change.
func (p *proxy) ruleOf(path string) (rule, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.rules {
		if r.path.MatchString(path) {
			return r, p.changed
		}
	}
	return rule{}, p.changed
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimSpace(r.Header.Get("Range") + " " + r.URL.Path)
	rule, changed := p.ruleOf(path)
	p.note(path) // after it: a script may change the rules as soon as it is noted
	for rule.fault == "hold" {
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
		rule, changed = p.ruleOf(path)
	}
	switch rule.fault {
	case "through":
		to := &url.URL{Scheme: "http", Host: p.upstream}
		through := httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
		through.ServeHTTP(w, r)
	case "hang":
		<-r.Context().Done()
	case "missing":
		http.NotFound(w, r)
	case "broken":
		http.Error(w, "broken", http.StatusInternalServerError)
	case "busy":
		http.Error(w, "busy", http.StatusServiceUnavailable)
	case "later":
		p.mu.Lock()
		p.later = time.Now().Add(retryAfter)
		p.mu.Unlock()
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
		http.Error(w, "busy", http.StatusServiceUnavailable)
	case "page":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<!DOCTYPE html>\n<html><body>Log in to the network.</body></html>\n")
	case "elsewhere":
		http.Redirect(w, r, "http://"+p.upstream+r.URL.Path, http.StatusFound)
	case "reset":
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
		}
	default:
		p.pass(w, r, rule, changed)
	}
}

// pass passes on the answer of upstream, with the body spoiled by rule.
func (p *proxy) pass(w http.ResponseWriter, r *http.Request, rule rule, changed <-chan struct{}) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.Method, "http://"+p.upstream+r.URL.Path, http.NoBody)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	if rule.fault != "short" && rule.fault != "long" && rule.fault != "trailing" {
		req.Header["Range"] = r.Header["Range"]
	}
	var from, to int64
	if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); n == 2 {
		switch rule.fault {
		case "early":
			from -= from % (64 << 10)
		case "late":
			from++
		}
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to))
	}
	resp, err := p.client.Do(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	body = damage(rule.fault, body)
	w.Header()["Content-Range"] = resp.Header["Content-Range"]
	switch rule.fault {
	case "trailing": // without a length
	case "gzip":
		w.Header().Set("Content-Encoding", "gzip")
		fallthrough
	default:
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(resp.StatusCode)
	part := func(size int) {
		_, _ = w.Write(body[:size])
		_ = http.NewResponseController(w).Flush()
		body = body[size:]
	}
	switch size := len(body); rule.fault {
	case "cut":
		part(min(int(cmp.Or(rule.bytes, int64(size/2))), size))
		if len(body) > 0 {
			panic(http.ErrAbortHandler)
		}
	case "half":
		part(max(0, min(size, half(resp, size))))
		select {
		case <-changed:
			part(len(body))
		case <-r.Context().Done():
		}
	case "stall":
		part(size * 99 / 100)
		<-r.Context().Done()
	case "drip":
		slowly(r.Context(), size, 1, part, func(int) time.Duration { return time.Second })
	case "rate":
		slowly(r.Context(), size, 4<<10, part, rule.lane.wait)
	default:
		part(size)
	}
}

// half returns the number of bytes of an answer, of size bytes, that belong to the first half
// of the file.
func half(resp *http.Response, size int) int {
	var from, to, all int
	if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &all); err != nil {
		return size / 2 // it is the whole file
	}
	return all/2 - from
}

// lane is a bandwidth that several answers share.
type lane struct {
	rate int64

	mu   sync.Mutex // guards free
	free time.Time
}

// wait returns the time to wait before a number of bytes is sent.
func (l *lane) wait(bytes int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(bytes) * time.Second / time.Duration(l.rate))
	return time.Until(l.free)
}

// slowly sends a body in parts, each after the time that wait returns for it, until ctx
// ends.
func slowly(ctx context.Context, left, most int, part func(size int), wait func(bytes int) time.Duration) {
	for left > 0 {
		size := min(left, most)
		select {
		case <-time.After(wait(size)):
		case <-ctx.Done():
			return
		}
		part(size)
		left -= size
	}
}

// damage applies fault to body.
func damage(fault string, body []byte) []byte {
	switch {
	case fault == "corrupt" && len(body) > 0:
		body = bytes.Clone(body)
		body[len(body)/2] ^= 1
	case fault == "short":
		body = body[:len(body)/2]
	case fault == "long", fault == "trailing":
		body = append(bytes.Clone(body), "too much"...)
	}
	return body
}
