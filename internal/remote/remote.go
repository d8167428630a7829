// Package remote gets a range of bytes from one HTTP server. It refuses to know
// versions, shards, and other servers.
//
// A caller may lean on this: an answer is bounded in silence (the time-out), in speed
// from below (64 bytes a second over the time-out) and, where the client has a limit, from
// above. Nothing that a server sends is followed (redirects are errors, RFC 9110, section
// 15.4) or used as a name, and its headers are at most 64 KiB.
//
// Errors of [Client.Get] match [fs.ErrNotExist] (404 and 410), [ErrUnreachable] (no
// answer), [ErrSilent] (an answer that stopped), or are a [*Busy] (503 and 429 with
// Retry-After) or a [Status].
package remote

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/shardcast/shardcast/internal/bucket"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/wire"
)

// A Server is one HTTP server, by its base URL. Servers are compared by their pointers.
type Server struct {
	// URL is where the paths of requests begin.
	URL *url.URL

	// Name is the URL without a password, for people.
	Name string

	direct    bool                    // no proxy is asked for it
	as        string                  // the name in its certificate, or empty for the host of the URL
	key       *[sha256.Size]byte      // the digest of its public key, which no authority vouches for; or nil
	own       onlyFor                 // its connections, where those of others do not do
	settled   atomic.Bool             // it has answered at the port of the URL
	moved     atomic.Pointer[url.URL] // to another port, or nil
	rangeless atomic.Bool
	whole     atomic.Bool // no range is requested any more, for its answers to ranges are of no use
}

// NewServer returns the server at u, which is asked through a proxy where the environment
// says so.
func NewServer(u *url.URL) *Server { return &Server{URL: u, Name: u.Redacted()} }

// NewNamed returns the server at u, whose certificate has to have a name in place of the
// address in u.
func NewNamed(u *url.URL, name string) *Server {
	s := NewServer(u)
	s.as = name
	return s
}

// NewPeer returns the server at u, which is asked directly: a proxy leads out of the network
// that peers share.
func NewPeer(u *url.URL) *Server {
	s := NewServer(u)
	s.direct = true
	return s
}

// NewPinned returns the peer at u, which has to have the public key with a digest.
func NewPinned(u *url.URL, key [sha256.Size]byte) *Server {
	s := NewPeer(u)
	s.key = &key
	return s
}

// Rangeless reports whether the server has answered a request for a range with more.
func (s *Server) Rangeless() bool { return s.rangeless.Load() }

// Host returns the host and port of the server.
func (s *Server) Host() string { return host(s.URL) }

func host(u *url.URL) string { return net.JoinHostPort(u.Hostname(), Port(u)) }

// Port returns the port of an http or https URL, or of one that is read like one of these.
func Port(u *url.URL) string {
	switch port := u.Port(); {
	case port != "":
		return port
	case strings.HasSuffix(u.Scheme, "https"): // also with dns+ before it
		return "443"
	}
	return "80"
}

// Options configure a [Client].
type Options struct {
	// Timeout is how long a server may send nothing.
	Timeout time.Duration

	// Connections is how many idle connections are kept to each server.
	Connections int

	// LimitRate bounds what limited requests receive together, in bytes per second. Zero
	// means no limit.
	LimitRate int64

	// Portless are the URLs of servers whose address named no port: while theirs refuses
	// connections, and has never answered, port 80 is asked.
	Portless []*url.URL

	// Logger receives a record when a server is asked at another port. Nil discards.
	Logger *slog.Logger

	// RootCAs returns the authorities that sign the certificates of https servers, for each new
	// connection; while they are the same, it is the same pool. Nil means those that the system trusts.
	RootCAs func() *x509.CertPool

	// Identity is shown to upstreams. The zero value shows none.
	Identity Identity

	// Node is the certificate that pinned peers know this node by. Nil shows none.
	Node *tls.Certificate

	// Dial connects in place of the system's dialer, and without a proxy. Nil means the
	// system's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Client makes requests. Its methods may be called from any goroutine.
type Client struct {
	http   *http.Client // for upstreams
	direct *http.Client // for peers
	opts   Options
	dialer *dialer
	bucket *bucket.Bucket // of limited requests, or nil
	step   int            // in bytes, the most that is read at once then

	mu   sync.Mutex // guards owns
	owns map[*Server]*http.Client
}

// New returns a Client.
func New(opts Options) *Client {
	c := &Client{
		opts:   opts,
		owns:   make(map[*Server]*http.Client),
		bucket: bucket.New(opts.LimitRate),
		dialer: newDialer(opts.Timeout),
	}
	if opts.Dial != nil {
		c.dialer.reach = opts.Dial
	}
	c.http = newClient(upstreams(opts, c.dialer, ""))
	c.direct = newClient(newTransport(opts, c.dialer, nil, nil))
	if c.bucket != nil {
		// Each connection has its turn twice a second, or it would seem to stall.
		c.step = min(c.bucket.Burst(), int(max(1, opts.LimitRate/int64(2*max(1, opts.Connections)))))
	}
	return c
}

// proxyFor returns the proxy for a request, or an error without the text of the variable, which
// may hold a password.
func proxyFor(r *http.Request) (*url.URL, error) {
	proxy, err := http.ProxyFromEnvironment(r)
	if err != nil {
		return nil, errors.New("HTTP_PROXY or HTTPS_PROXY is not the URL of a proxy")
	}
	return proxy, nil
}

// newTransport has no time limits of its own but for connecting: [Client.Get] watches the
// whole of a request for silence. With a dialer and a TLS configuration of ours it speaks
// HTTP/1.1 alone: HTTP/2, whose transfers share a connection, was slower by a fifth.
func newTransport(
	opts Options, d *dialer, proxy func(*http.Request) (*url.URL, error), over *tls.Config,
) *http.Transport {
	t := &http.Transport{
		Proxy:                  proxy,
		TLSClientConfig:        over,
		DialContext:            d.dial,
		TLSHandshakeTimeout:    opts.Timeout,
		MaxIdleConnsPerHost:    opts.Connections,
		IdleConnTimeout:        wire.ClientIdle,
		DisableCompression:     true, // the digests are of the bytes as they are
		MaxResponseHeaderBytes: 64 << 10,
	}
	if opts.Dial != nil {
		t.Proxy = nil
	}
	return t
}

func newClient(by http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     by,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Expect has a connection for each of the options' opened beside the first requests to an upstream that is far,
// less the two for which these have theirs: many requests follow at once.
func (c *Client) Expect() { c.dialer.expect(max(0, c.opts.Connections-2)) }

// IsFar reports whether all servers so far are [trip.Long] away or more: none is of this network, and each request
// costs such a time. A connection that began behind a full queue alone makes none far.
func (c *Client) IsFar() bool { return c.dialer.isFar() }

// Close closes the connections that are kept for later requests.
func (c *Client) Close() {
	c.dialer.close()
	c.http.CloseIdleConnections()
	c.direct.CloseIdleConnections()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, own := range c.owns {
		own.CloseIdleConnections()
	}
}

// A Request is a request for one resource of a server.
type Request struct {
	// Path is below the server's URL, an element each.
	Path []string

	// Digest is that of the resource, which a cache on the way may key it by. Zero leaves
	// it out.
	Digest shard.Digest

	// Want is the range that is requested. Zero means all.
	Want disk.Range

	// Size is that of the whole resource in bytes, or 0 if it is not known: a part of
	// anything else is of no use.
	Size int64

	// Header is sent beside the headers of every request.
	Header map[string]string

	// Hold is how long the server may hold the answer back.
	Hold time.Duration

	// Timeout bounds silences. Zero means the client's.
	Timeout time.Duration

	// Trickles allows an answer with little data, and pauses as long as Hold.
	Trickles bool

	// Limited has the answer keep to the client's limit.
	Limited bool
}

// A Body is the answer to a [Request]. It is for one goroutine, which closes it.
type Body struct {
	// From is the offset of its first byte in the resource: at or before the range that was
	// requested, for not all servers know ranges.
	From int64

	// To is the offset after its last byte, where the server sends a part of the resource,
	// and otherwise 0. It may be before or after the end of the range that was requested.
	To int64

	// Size is the size of the whole resource in bytes, or -1 if the server did not say.
	Size int64

	// Bounded says that the server has stated how many bytes it sends, so that no more can
	// be read.
	Bounded bool

	// Header is the answer's.
	Header http.Header

	// Addr is where the server is, or zero if there is a proxy between: its address says
	// nothing of the server.
	Addr netip.Addr

	// Unchanged says that the resource has the ETag that the request named in
	// If-None-Match. There is nothing to read.
	Unchanged bool

	body    io.ReadCloser
	ctx     context.Context //nolint:containedctx // a request's life, as in http.Request
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	timeout time.Duration
	floor   float64      // bytes per second, see the constant
	came    atomic.Int64 // bytes since the timer was set
	bucket  *bucket.Bucket
	step    int
	conn    net.Conn
	gathers gathering
}

// floor in bytes per second is the speed that counts as silence, over the time-out.
const floor = 64

// Get makes a request, and returns the answer when its headers have come. See the
// package comment for the errors. Their text names the URL.
func (c *Client) Get(ctx context.Context, s *Server, r Request) (*Body, error) {
	if !slices.Contains(c.opts.Portless, s.URL) || s.settled.Load() {
		return c.get(ctx, s, s.URL, r)
	}
	plain := *s.URL
	plain.Host = s.URL.Hostname()
	if strings.Contains(plain.Host, ":") {
		plain.Host = "[" + plain.Host + "]"
	}
	at, other := s.URL, &plain
	if s.moved.Load() != nil {
		at, other = other, at
	}
	b, err := c.get(ctx, s, at, r)
	if errors.Is(err, syscall.ECONNREFUSED) {
		there, failed := c.get(ctx, s, other, r)
		if failed != nil {
			return nil, err
		}
		b, err, at = there, nil, other
	}
	switch {
	case err != nil:
	case at == s.URL:
		s.settled.Store(true)
	case s.moved.Swap(at) == nil && c.opts.Logger != nil:
		c.opts.Logger.Info("upstream refuses its port and is asked at port 80", "upstream", s.Name)
	}
	return b, err
}

// get is Get from the server at a URL.
func (c *Client) get(ctx context.Context, s *Server, at *url.URL, r Request) (*Body, error) {
	target := at.JoinPath(r.Path...)
	name := target.Redacted()
	if r.Digest != (shard.Digest{}) {
		target.RawQuery = wire.DigestQuery + "=" + r.Digest.String()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	b := &Body{ctx: ctx, cancel: cancel, timeout: cmp.Or(r.Timeout, c.opts.Timeout), floor: floor}
	silence := b.timeout + r.Hold
	if r.Trickles {
		b.timeout, b.floor = silence, 0
	}
	if r.Limited {
		b.bucket, b.step = c.bucket, c.step
	}
	b.timer = time.AfterFunc(silence, func() {
		if came := b.came.Load(); came > 0 {
			cancel(fmt.Errorf("%w in %v: %d bytes", errDrip, silence, came))
		}
		cancel(fmt.Errorf("%w for %v", ErrSilent, silence))
	})
	b.ctx = httptrace.WithClientTrace(b.ctx, b.trace(host(at)))
	if err := c.open(b, s, target, r); err != nil {
		b.stop()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if r.Want.To > 0 && b.From < r.Want.From {
		s.rangeless.Store(true)
	}
	return b, nil
}

// trace notes the address of the server that has a host and port.
func (b *Body) trace(host string) *httptrace.ClientTrace {
	direct := false
	return &httptrace.ClientTrace{
		GetConn: func(hostPort string) { direct = hostPort == host },
		GotConn: func(info httptrace.GotConnInfo) {
			b.conn = info.Conn
			if tcp, ok := info.Conn.RemoteAddr().(*net.TCPAddr); ok && direct {
				b.Addr = tcp.AddrPort().Addr().Unmap()
			}
		},
	}
}

// open makes the request and fills b with the answer.
func (c *Client) open(b *Body, s *Server, target *url.URL, r Request) error {
	if s.whole.Load() {
		r.Want = disk.Range{}
	}
	err := c.exchange(b, s, target, r)
	useless := errors.Is(err, errUseless)
	broken := r.Want.To > 0 && errors.Is(err, Status(http.StatusInternalServerError)) // which may not last
	if (useless || broken) && b.ctx.Err() == nil {
		s.whole.Store(s.whole.Load() || useless)
		r.Want = disk.Range{}
		err = c.exchange(b, s, target, r)
	}
	return err
}

// exchange sends one request, and fills b with the answer. The error matches errUseless if
// the answer to a range is of no use.
func (c *Client) exchange(b *Body, s *Server, target *url.URL, r Request) error {
	req, err := http.NewRequestWithContext(b.ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "shardcast")
	req.Header.Set(wire.NodeHeader, "1")
	req.Header.Set("Accept-Encoding", "identity") // the digests are of the bytes as they are
	for name, value := range r.Header {
		req.Header.Set(name, value)
	}
	if r.Want.To > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", r.Want.From, r.Want.To-1))
	}
	if token := c.opts.Identity.tokenFor(s, target); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.clientFor(s).Do(req)
	if err != nil {
		return Matching(explained(b.cause(errors.Unwrap(err)), target), ErrUnreachable)
	}
	if err := b.fill(resp, r); err != nil {
		_ = resp.Body.Close()
		return err
	}
	return nil
}

// fill fills b with an answer. The caller closes the answer's body if that fails.
func (b *Body) fill(resp *http.Response, r Request) error {
	b.body, b.Header, b.Size, b.Bounded = resp.Body, resp.Header, resp.ContentLength, resp.ContentLength >= 0
	switch {
	case resp.StatusCode == http.StatusNotModified && r.Header["If-None-Match"] != "":
		b.Unchanged = true
		return nil
	case resp.StatusCode == http.StatusPartialContent && r.Want.To > 0:
		part, err := usablePart(resp, r)
		if err != nil {
			return err
		}
		b.From, b.Size, b.To = part.from, part.size, part.to
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && r.Want.To > 0:
		return unsatisfied(resp.Header, r.Want)
	case resp.StatusCode != http.StatusOK:
		return answered(resp)
	}
	if err := b.checkContent(); err != nil {
		return err
	}
	if !r.Trickles && b.bucket == nil {
		b.gathers = gather(b.conn, resp.ContentLength)
	}
	return nil
}

// Read reads on, and fails when nothing, or less than the floor, has come for the
// time-out.
func (b *Body) Read(buf []byte) (int, error) {
	if b.bucket != nil {
		buf = buf[:min(len(buf), b.step)]
	}
	n, err := b.body.Read(buf)
	b.gathers.read(n)
	if n > 0 && b.bucket != nil {
		b.timer.Stop() // this silence is ours
		if err := b.bucket.Take(b.ctx, n); err != nil {
			return n, err
		}
		b.timer.Reset(b.timeout)
	}
	if n > 0 && float64(b.came.Add(int64(n))) >= b.floor*b.timeout.Seconds() {
		b.came.Store(0)
		b.timer.Reset(b.timeout)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.cause(err)
	}
	return n, err
}

// Date returns when the server sent the answer by its own clock, or by ours if it did not say.
func (b *Body) Date() time.Time {
	date, err := http.ParseTime(b.Header.Get("Date"))
	if err != nil {
		return time.Now()
	}
	return date
}

// Close ends the request.
func (b *Body) Close() error {
	defer b.stop()
	b.gathers.end()
	return b.body.Close()
}

func (b *Body) stop() {
	b.timer.Stop()
	b.cancel(nil)
}

// cause returns why the request ended, of which err is a consequence.
func (b *Body) cause(err error) error {
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	return err
}
