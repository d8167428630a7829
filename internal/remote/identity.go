package remote

import (
	"crypto/tls"
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

// upstreamTLS is how upstreams are spoken to, whose certificate has a name, or for an empty
// one that of their URL.
func upstreamTLS(opts Options, name string) *tls.Config {
	c := &tls.Config{RootCAs: opts.RootCAs, MinVersion: tls.VersionTLS12, ServerName: name}
	if of := opts.Identity.Certificate; of != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			own := of()
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
		s.own.once.Do(func() { c.add(s, newClient(c.opts, nil, credential.Pinned(*s.key, c.opts.Node))) })
		return s.own.http
	case s.as != "":
		s.own.once.Do(func() { c.add(s, newClient(c.opts, proxyFor, upstreamTLS(c.opts, s.as))) })
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
