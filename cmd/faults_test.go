package cmd_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// proxy stands before a server and does to its answers what its rules say. A
// rule is FAULT=REGEXP, for the paths that match:
//
//	corrupt    one bit of the body is flipped
//	short      the body ends early, with a Content-Length that says so; ranges are not known
//	long       the body goes on for too long, likewise
//	cut        the connection ends in the middle of the body
//	reset      the connection is reset before anything is answered
//	hang       nothing is ever answered
//	missing    404
//	busy       503
//	later      503, with Retry-After: 1
//	stall      all but a hundredth of the body comes, and then nothing
//	drip       one byte a second
//	elsewhere  a redirect to the server itself
//	hold       the answer waits until the rules change
type proxy struct {
	upstream string
	client   *http.Client

	mu      sync.Mutex // guards what follows
	rules   []rule
	changed chan struct{} // closed and replaced when the rules change
	paths   *journal      // a line for each request
}

type rule struct {
	fault string
	path  *regexp.Regexp
}

func parseRules(ts *testscript.TestScript, args []string) []rule {
	var rules []rule
	for _, arg := range args {
		fault, path, ok := strings.Cut(arg, "=")
		pattern, err := regexp.Compile(path)
		if !ok || err != nil {
			ts.Fatalf("bad rule %q: %v", arg, err)
		}
		rules = append(rules, rule{fault, pattern})
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
	found := regexp.MustCompile("(?m:"+args[1]+")").FindAllString(p.paths.String(), -1)
	if strconv.Itoa(len(found)) != args[2] {
		ts.Fatalf("%s has been asked for %s %d times instead of %s:\n%s", args[0], args[1], len(found), args[2], p.paths)
	}
}

func answer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: answer METHOD URL REGEXP")
	}
	pattern, err := regexp.Compile(args[2])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, args[0], args[1], http.NoBody)
	ts.Check(err)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	header, err := httputil.DumpResponse(resp, false)
	ts.Check(err)
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	ts.Check(err)
	if text := append(header, body...); !pattern.Match(text) {
		ts.Fatalf("the answer does not match %q:\n%q", args[2], text)
	}
}

func crowd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: crowd ADDRESS COUNT PATH")
	}
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	for i := range 2 * count {
		conn, err := net.Dial("tcp", args[0])
		ts.Check(err)
		ts.Defer(func() { _ = conn.Close() })
		if i%2 == 0 {
			_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: crowd\r\n\r\n", args[2])
			ts.Check(err)
			_, err = conn.Read(make([]byte, 1)) // the answer has begun
			ts.Check(err)
		}
	}
}

// faultOf returns the fault for a path, and what is closed when that may have
// changed.
func (p *proxy) faultOf(path string) (string, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.rules {
		if r.path.MatchString(path) {
			return r.fault, p.changed
		}
	}
	return "", p.changed
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(p.paths, r.URL.Path)
	fault, changed := p.faultOf(r.URL.Path)
	for fault == "hold" {
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
		fault, changed = p.faultOf(r.URL.Path)
	}
	switch fault {
	case "hang":
		<-r.Context().Done()
		return
	case "missing":
		http.NotFound(w, r)
		return
	case "busy":
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	case "later":
		w.Header().Set("Retry-After", "1")
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	case "elsewhere":
		http.Redirect(w, r, "http://"+p.upstream+r.URL.Path, http.StatusFound)
		return
	case "reset":
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
		}
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.Method, "http://"+p.upstream+r.URL.Path, http.NoBody)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	if fault != "short" && fault != "long" {
		req.Header["Range"] = r.Header["Range"]
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
	body = damage(fault, body)
	w.Header()["Content-Range"] = resp.Header["Content-Range"]
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(resp.StatusCode)
	if fault == "cut" {
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	switch fault {
	case "stall":
		_, _ = w.Write(body[:len(body)*99/100])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case "drip":
		drip(r.Context(), w, body)
	default:
		_, _ = w.Write(body)
	}
}

// drip sends a byte a second until ctx ends.
func drip(ctx context.Context, w http.ResponseWriter, body []byte) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for i := range body {
		if _, err := w.Write(body[i : i+1]); err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-second.C:
		case <-ctx.Done():
			return
		}
	}
}

// damage does to body what fault says.
func damage(fault string, body []byte) []byte {
	switch {
	case fault == "corrupt" && len(body) > 0:
		body = bytes.Clone(body)
		body[len(body)/2] ^= 1
	case fault == "short":
		body = body[:len(body)/2]
	case fault == "long":
		body = append(bytes.Clone(body), "too much"...)
	}
	return body
}
