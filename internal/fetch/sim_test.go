package fetch_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

// A network of servers whose uplinks have a speed, on the clock of a synctest
// bubble. Real connections, handlers and transports; only the wires are not.

const (
	megabyte = 1 << 20

	// latency is between a request and the first byte of its answer.
	latency = 20 * time.Millisecond

	// grain is the time for which one piece keeps a link busy.
	grain = 10 * time.Millisecond
)

// published is one version, v1, as every host of a network offers it.
type published struct {
	data  []byte
	files map[string][]byte // by path
}

// publish cuts size random bytes into shards.
func publish(t *testing.T, size, shardSize int) published {
	t.Helper()
	data := content(1, size)
	m := shard.Manifest{Name: "weights.bin", Size: int64(size), ShardSize: int64(shardSize), Digest: digestOf(data)}
	files := make(map[string][]byte)
	for piece := range slices.Chunk(data, shardSize) {
		m.Shards = append(m.Shards, digestOf(piece))
		files["/v1/"+shard.FileName(len(m.Shards))] = piece
	}
	text, err := m.Encode()
	require.NoError(t, err)
	files["/v1/manifest.json"] = text
	files["/distribution.txt"] = []byte("v1: " + m.Digest.String() + "\n")
	return published{data, files}
}

type network struct {
	version published
	start   time.Time
	end     chan struct{}

	// resolve finds the addresses of names for pools that are made afterwards. Nil asks the
	// machine.
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)

	mu     sync.Mutex // guards the fields below
	hosts  map[string]*host
	dialed []string // addresses
}

// simulate runs test in a bubble, with a network that is taken down after it.
func simulate(t *testing.T, version published, test func(t *testing.T, n *network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := &network{version: version, start: time.Now(), end: make(chan struct{}), hosts: make(map[string]*host)}
		defer func() {
			close(n.end)
			for _, h := range n.hosts {
				assert.NoError(t, h.server.Close()) //nolint:testifylint // all are to be closed
			}
			time.Sleep(time.Minute) // for goroutines that sleep; the clock stops with this function
		}()
		test(t, n)
	})
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	h := n.hosts[address]
	n.dialed = append(n.dialed, address)
	n.mu.Unlock()
	if h == nil || h.isDown() {
		return nil, errors.New("connection refused")
	}
	time.Sleep(h.away)
	ours, theirs := net.Pipe()
	select {
	case h.incoming <- shaped{theirs, h}:
		return ours, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-n.end:
		return nil, net.ErrClosed
	}
}

// request is a request to a host for a shard.
type request struct {
	at     time.Duration // since the begin of the simulation
	path   string
	asked  string // the Range
	status int
	header http.Header
}

// host is one server.
type host struct {
	network  *network
	name     string
	away     time.Duration // how long it takes to connect to it
	server   *http.Server
	incoming chan net.Conn

	mu       sync.Mutex                        // guards the fields below
	speed    func(since time.Duration) float64 // bytes per second of all connections
	idle     time.Time                         // when the link has sent all of its data
	spoil    spoiler                           // for shards
	answers  map[string]http.HandlerFunc       // by path, for other files than shards
	paths    []string                          // of requests for these
	down     bool
	sent     int64 // bytes
	requests []request
	now      int // requests for shards being answered
	most     int
}

// host adds a server of so many bytes per second.
func (n *network) host(name string, speed float64) *host {
	h := &host{
		network: n, name: name, incoming: make(chan net.Conn),
		speed: func(time.Duration) float64 { return speed },
	}
	h.server = &http.Server{Handler: h, ReadHeaderTimeout: time.Hour}
	n.mu.Lock()
	n.hosts[name+":80"] = h
	n.mu.Unlock()
	go func() { _ = h.server.Serve(h) }()
	return h
}

// Accept, Close and Addr make h a listener.
func (h *host) Accept() (net.Conn, error) {
	select {
	case conn := <-h.incoming:
		return conn, nil
	case <-h.network.end:
		return nil, net.ErrClosed
	}
}

func (h *host) Close() error   { return nil }
func (h *host) Addr() net.Addr { return &net.TCPAddr{} }

// shaped is a connection of a host, which sends no faster than its link does.
type shaped struct {
	net.Conn

	host *host
}

func (c shaped) Write(data []byte) (n int, err error) {
	for len(data) > 0 && err == nil {
		piece := data[:min(len(data), c.host.grain())]
		data = data[len(piece):]
		time.Sleep(c.host.reserve(len(piece)))
		var sent int
		sent, err = c.Conn.Write(piece)
		n += sent
	}
	return n, err
}

func (h *host) rate() float64 { return h.speed(time.Since(h.network.start)) }

func (h *host) grain() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(256, int(h.rate()*grain.Seconds()))
}

// reserve returns the time until the link has sent so many bytes more.
func (h *host) reserve(bytes int) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); h.idle.Before(now) {
		h.idle = now
	}
	h.idle = h.idle.Add(time.Duration(float64(bytes) / h.rate() * float64(time.Second)))
	h.sent += int64(bytes)
	return time.Until(h.idle)
}

func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(latency)
	file := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := h.network.version.files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	})
	if !strings.Contains(r.URL.Path, "/shard_") {
		h.mu.Lock()
		answer := h.answers[r.URL.Path]
		h.paths = append(h.paths, r.URL.Path)
		h.mu.Unlock()
		if answer == nil {
			answer = file
		}
		answer(w, r)
		return
	}
	h.mu.Lock()
	h.now++
	h.most = max(h.most, h.now)
	number := len(h.requests)
	h.requests = append(h.requests,
		request{time.Since(h.network.start), r.URL.Path, r.Header.Get("Range"), 0, r.Header})
	spoil := h.spoil
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.now--
	}()
	noted := &notedWriter{w, func(status int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.requests[number].status = status
	}}
	if spoil == nil {
		spoil = func(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) }
	}
	spoil(noted, r, file)
}

// notedWriter notes the status.
type notedWriter struct {
	http.ResponseWriter

	note func(status int)
}

func (w *notedWriter) WriteHeader(status int) {
	w.note(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *notedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// varies makes the speed of h that of a time since the begin.
func (h *host) varies(speed func(since time.Duration) float64) *host {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.speed = speed
	return h
}

// isAway has connections to h take so long.
func (h *host) isAway(d time.Duration) *host {
	h.away = d
	return h
}

func (h *host) spoilWith(s spoiler) *host {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.spoil = s
	return h
}

// answer makes a, or the usual handler if a is nil, answer requests for path, which is that
// of no shard.
func (h *host) answer(path string, a http.HandlerFunc) *host {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.answers == nil {
		h.answers = make(map[string]http.HandlerFunc)
	}
	h.answers[path] = a
	return h
}

func (h *host) isDown() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.down
}

// outage makes h refuse connections between two times from now, and break off open ones.
func (h *host) outage(from, to time.Duration) *host {
	set := func(down bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.down = down
	}
	time.AfterFunc(from, func() { set(true) })
	time.AfterFunc(to, func() { set(false) })
	h.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&faulty{ResponseWriter: w, at: func(int64) (int64, func()) {
			if h.isDown() {
				return 0, func() { panic(http.ErrAbortHandler) }
			}
			return copySize, nil
		}}, r)
	})
	return h
}

func (h *host) sentBytes() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sent
}

// others returns the paths of other requests than those for shards.
func (h *host) others() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.paths)
}

// atOnce returns the largest number of requests for shards at the same time.
func (h *host) atOnce() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.most
}

func (h *host) asked() []request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.requests)
}

// answered returns the requests that got a status.
func (h *host) answered(status int) []request {
	return slices.DeleteFunc(h.asked(), func(r request) bool { return r.status != status })
}

// copySize is the number of bytes that a faulty writer passes on at once.
const copySize = 16 << 10

// faulty is a writer with faults: at returns, for the number of bytes written so far, the
// number that may follow, and the fault before the others.
type faulty struct {
	http.ResponseWriter

	at      func(written int64) (allowed int64, fault func())
	written int64
}

func (f *faulty) Write(data []byte) (n int, err error) {
	for len(data) > 0 && err == nil {
		allowed, fault := f.at(f.written)
		if allowed == 0 {
			fault()
			continue
		}
		piece := data[:min(int64(len(data)), allowed)]
		data = data[len(piece):]
		var sent int
		sent, err = f.ResponseWriter.Write(piece)
		n += sent
		f.written += int64(sent)
	}
	return n, err
}

// faultAt makes an answer go wrong after so many of its bytes.
func faultAt(bytes int64, fault func(w http.ResponseWriter, r *http.Request)) spoiler {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&faulty{ResponseWriter: w, at: func(written int64) (int64, func()) {
			if written < bytes {
				return bytes - written, nil
			}
			return 0, func() {
				_ = http.NewResponseController(w).Flush()
				fault(w, r)
			}
		}}, r)
	}
}

// hang sends no more bytes.
func hang(_ http.ResponseWriter, r *http.Request) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// cut breaks the connection off.
func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// drip sends a byte a second after so many bytes.
func drip(after int64) spoiler {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&faulty{ResponseWriter: w, at: func(written int64) (int64, func()) {
			if written < after {
				return after - written, nil
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(time.Second):
			case <-r.Context().Done():
				panic(http.ErrAbortHandler)
			}
			return 1, nil
		}}, r)
	}
}

// oncePerPath makes h answer the first request for each shard.
func oncePerPath(h spoiler) spoiler {
	var mu sync.Mutex
	seen := make(map[string]bool)
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		mu.Lock()
		again := seen[r.URL.Path]
		seen[r.URL.Path] = true
		mu.Unlock()
		if again {
			next.ServeHTTP(w, r)
		} else {
			h(w, r, next)
		}
	}
}

// client returns a pool of hosts that draws by a random source of its own, or, if
// seed is 0, the first host that it may ask.
func (n *network) client(t *testing.T, opts fetch.Options, seed uint64, hosts ...*host) *fetch.Pool {
	t.Helper()
	for _, h := range hosts {
		opts.Upstreams = append(opts.Upstreams, &url.URL{Scheme: "http", Host: h.name + ":80"})
	}
	draw := rand.New(rand.NewPCG(seed, seed)).Float64
	if seed == 0 {
		draw = func() float64 { return 0 }
	}
	pool, err := fetch.NewOn(fetch.System{Draw: draw, Dial: n.dial, Resolve: n.resolve}, opts)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// fetched is the result of a fetch.
type fetched struct {
	fetch.Progress

	took time.Duration
	log  *logbook
}

// fetch gets the version from hosts, and checks that all is as it should be.
func (n *network) fetch(t *testing.T, opts fetch.Options, hosts ...*host) fetched {
	t.Helper()
	got, err := n.tryFetch(t, opts, 1, new(memory), hosts...)
	require.NoError(t, err)
	return got
}

func (n *network) tryFetch(
	t *testing.T, opts fetch.Options, seed uint64, sink *memory, hosts ...*host,
) (fetched, error) {
	t.Helper()
	log := new(logbook)
	opts.Logger = cmp.Or(opts.Logger, log.logger())
	pool := n.client(t, opts, seed, hosts...)
	require.NoError(t, pool.Refresh(t.Context(), fetch.Soon))
	start := time.Now()
	_, end, err := pool.Fetch(t.Context(), fetch.Task{
		Entry:    pool.Offers()[0],
		Open:     func(context.Context, fetch.Manifest) (fetch.Sink, error) { return sink, nil },
		Progress: func(fetch.Progress) {},
	})
	took := time.Since(start)
	if err == nil {
		n.checkResult(t, sink, end)
	}
	return fetched{end, took, log}, err
}

// checkResult checks that the file is right, and that every byte is accounted for.
func (n *network) checkResult(t *testing.T, sink *memory, end fetch.Progress) {
	t.Helper()
	size := int64(len(n.version.data))
	assert.Equal(t, digestOf(n.version.data), digestOf(sink.bytes()))
	assert.Equal(t, size, end.Done)
	assert.Equal(t, end.Received, end.Done-end.Resumed+end.Wasted, "received bytes are those used and those wasted")
	var sum int64
	for _, u := range end.Upstreams {
		sum += u.Received
	}
	assert.Equal(t, end.Received, sum)
}

// assertWithin asserts that a fetch took at most factor times as long as all bytes take at
// so many bytes per second.
func (f fetched) assertWithin(t *testing.T, factor, speed float64) {
	t.Helper()
	ratio := f.took.Seconds() / (float64(f.Size) / speed)
	t.Logf("took %v, %.3f times the best, %.2f %% wasted", f.took.Round(time.Millisecond), ratio, f.wastedPercent())
	assert.LessOrEqual(t, ratio, factor)
}

func (f fetched) wastedPercent() float64 { return 100 * float64(f.Wasted) / float64(f.Size) }
