package main

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	oneIn      = 50        // answers are spoilt in each way
	copyBuffer = 256 << 10 // bytes
	sendBuffer = 64 << 10  // bytes, which count as sent when the reader is killed
)

// A faulty is an HTTP proxy that spoils some of the shards that it passes on, and counts
// their bytes.
type faulty struct {
	server   *httptest.Server
	upstream string
	corrupts bool
	client   http.Client
	sent     atomic.Int64 // bytes of shards

	mu     sync.Mutex // guards random
	random *rand.Rand
}

// startProxy starts a proxy of upstream, which stalls and resets answers, and where it
// corrupts also sends wrong bytes.
func startProxy(upstream string, corrupts bool, seed uint64) *faulty {
	p := &faulty{upstream: upstream, corrupts: corrupts, random: rand.New(rand.NewPCG(seed, seed))}
	p.client.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
	p.server = httptest.NewUnstartedServer(p)
	p.server.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetWriteBuffer(sendBuffer)
		}
		return ctx
	}
	p.server.Start()
	return p
}

// address is the proxy's host and port.
func (p *faulty) address() string { return strings.TrimPrefix(p.server.URL, "http://") }

// A fault is that of an answer.
type fault int

const (
	none    fault = iota
	corrupt       // a bit is flipped
	stall         // after some bytes no more comes
	reset         // after some bytes the connection is reset
)

// draw returns a fault of an answer of so many bytes, and its place.
func (p *faulty) draw(bytes int64) (fault, int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := none
	switch p.random.IntN(oneIn) {
	case 0:
		f = stall
	case 1:
		f = reset
	case 2:
		if p.corrupts {
			f = corrupt
		}
	}
	return f, p.random.Int64N(max(bytes, 1))
}

// ServeHTTP passes a request on, and most of the answer back.
func (p *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+p.upstream+r.URL.Path, http.NoBody)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	req.Header["Range"] = r.Header["Range"]
	resp, err := p.client.Do(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	for _, name := range []string{"Content-Length", "Content-Range", "Etag"} {
		w.Header()[name] = resp.Header[name]
	}
	w.WriteHeader(resp.StatusCode)
	if !strings.Contains(r.URL.Path, "/shard_") || resp.StatusCode/100 != 2 {
		_, _ = io.Copy(w, resp.Body)
		return
	}
	p.spoil(r.Context(), w, resp)
}

// spoil sends a shard, or a range of one.
func (p *faulty) spoil(ctx context.Context, w http.ResponseWriter, resp *http.Response) {
	f, at := p.draw(resp.ContentLength)
	buf := make([]byte, copyBuffer)
	out := counter{w, &p.sent}
	if f == none {
		_, _ = io.CopyBuffer(out, resp.Body, buf)
		return
	}
	if _, err := io.CopyBuffer(out, io.LimitReader(resp.Body, at), buf); err != nil {
		return
	}
	_ = http.NewResponseController(w).Flush()
	switch f {
	case stall:
		<-ctx.Done()
	case reset:
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
		}
	case corrupt:
		if _, err := io.ReadFull(resp.Body, buf[:1]); err == nil {
			buf[0] ^= 1
			_, _ = out.Write(buf[:1])
			_, _ = io.CopyBuffer(out, resp.Body, buf)
		}
	}
}

// A counter counts the bytes of a writer.
type counter struct {
	io.Writer

	bytes *atomic.Int64
}

// Write writes p.
func (c counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}
