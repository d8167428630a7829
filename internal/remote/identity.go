package remote

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"

	"github.com/shardcast/shardcast/internal/credential"
)

// An Identity is what upstreams know this node by. Peers never learn of it.
type Identity struct {
	// Certificate returns the certificate for servers that ask for one. Nil shows none.
	Certificate func() tls.Certificate

	// Token returns the bearer token (RFC 6750) for servers that [MayHaveToken]. One with a
	// password in its URL gets that alone. Nil sends none.
	Token func() string
}

// MayHaveToken reports whether a token may be sent to the server at u: nothing on the way can
// read it there, for it goes over TLS or does not leave this machine. No redirect is followed,
// so no other server gets it.
func MayHaveToken(u *url.URL) bool {
	if strings.HasSuffix(u.Scheme, "https") {
		return true
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return err == nil && addr.Unmap().IsLoopback() || err != nil && strings.EqualFold(u.Hostname(), "localhost")
}

// tokenFor returns the token for a request to s, or nothing.
func (i Identity) tokenFor(s *Server, target *url.URL) string {
	if i.Token == nil || s.direct || target.User != nil || !MayHaveToken(target) {
		return ""
	}
	return i.Token()
}

// upstreams makes connections to upstreams whose certificate has a name, or for an empty one that
// of their URL.
func upstreams(opts Options, d *dialer, name string) http.RoundTripper {
	open := func(roots *x509.CertPool) *http.Transport {
		return newTransport(opts, d, proxyFor, upstreamTLS(opts.Identity, name, roots))
	}
	if opts.RootCAs == nil {
		return open(nil)
	}
	return &byAuthority{roots: opts.RootCAs, open: open}
}

// byAuthority makes its connections by the authorities at the time, and keeps none of those
// before for further requests.
type byAuthority struct {
	roots func() *x509.CertPool
	open  func(roots *x509.CertPool) *http.Transport

	mu  sync.Mutex // guards what follows
	by  *x509.CertPool
	now *http.Transport
}

// RoundTrip sends a request.
func (a *byAuthority) RoundTrip(r *http.Request) (*http.Response, error) {
	return a.transport().RoundTrip(r)
}

func (a *byAuthority) transport() *http.Transport {
	roots := a.roots()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now == nil || a.by != roots {
		if a.now != nil {
			a.now.CloseIdleConnections()
		}
		a.by, a.now = roots, a.open(roots)
	}
	return a.now
}

// CloseIdleConnections closes the connections that are kept for later requests.
func (a *byAuthority) CloseIdleConnections() { a.transport().CloseIdleConnections() }

func upstreamTLS(own Identity, name string, roots *x509.CertPool) *tls.Config {
	c := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ServerName: name}
	if own.Certificate != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			own := own.Certificate()
			return &own, nil
		}
	}
	return c
}

// onlyFor makes the connections of one server: those of others, even at the same address,
// have shown another certificate.
type onlyFor struct {
	once sync.Once
	http *http.Client
}

// clientFor returns what makes requests to s.
func (c *Client) clientFor(s *Server) *http.Client {
	switch {
	case s.key != nil:
		s.own.once.Do(func() {
			c.add(s, newClient(newTransport(c.opts, c.dialer, nil, credential.Pinned(*s.key, c.opts.Node))))
		})
		return s.own.http
	case s.as != "":
		s.own.once.Do(func() { c.add(s, newClient(upstreams(c.opts, c.dialer, s.as))) })
		return s.own.http
	case s.direct:
		return c.direct
	}
	return c.http
}

// add gives s connections of its own.
func (c *Client) add(s *Server, own *http.Client) {
	s.own.http = own
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owns[s] = own
}

// Forget closes the connections that are kept for s alone, which is asked no more.
func (c *Client) Forget(s *Server) {
	c.mu.Lock()
	own := c.owns[s]
	delete(c.owns, s)
	c.mu.Unlock()
	if own != nil {
		own.CloseIdleConnections()
	}
}
