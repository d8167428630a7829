package remote_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/credential"
	"github.com/shardcast/shardcast/internal/remote"
)

// serveAs serves over TLS by a certificate, and sends the header of each request.
func serveAs(t *testing.T, pair tls.Certificate) (*url.URL, <-chan *http.Request) {
	t.Helper()
	asked := make(chan *http.Request, 10)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r }))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	require.NoError(t, err)
	return u, asked
}

func identity(t *testing.T) tls.Certificate {
	t.Helper()
	pair, err := credential.NewIdentity()
	require.NoError(t, err)
	return pair
}

// A peer has no authority: its key is what counts, also where another peer was at its address
// before. It learns of this node's own key, and of no token.
func TestAPeerIsAskedOnlyIfItHasItsKey(t *testing.T) {
	own, other, node := identity(t), identity(t), identity(t)
	u, asked := serveAs(t, own)
	c := remote.New(remote.Options{
		Timeout: time.Minute, Node: &node,
		Identity: remote.Identity{
			Token:       func() string { return "s3same" },
			Certificate: func() tls.Certificate { return other },
		},
	})
	defer c.Close()
	right := remote.NewPinned(u, credential.KeyDigest(own.Leaf))
	for range 2 {
		body, err := c.Get(t.Context(), right, remote.Request{})
		require.NoError(t, err)
		require.NoError(t, body.Close())
		r := <-asked
		assert.Empty(t, r.Header.Get("Authorization"))
		require.Len(t, r.TLS.PeerCertificates, 1)
		assert.Equal(t, credential.KeyDigest(node.Leaf), credential.KeyDigest(r.TLS.PeerCertificates[0]))
	}
	_, err := c.Get(t.Context(), remote.NewPinned(u, credential.KeyDigest(other.Leaf)), remote.Request{})
	require.ErrorContains(t, err, "it has another key than the one that its upstream lists")
	assert.Empty(t, asked)
	c.Forget(right)
}

func TestATokenGoesOverTLSOrToThisMachineAlone(t *testing.T) {
	for text, want := range map[string]bool{
		"https://weights.example.com": true, "dns+https://weights.example.com": true, "http://127.0.0.1:1": true,
		"http://[::1]:1": true, "http://localhost:1": true, "http://LOCALHOST": true, "http://127.9.9.9": true,
		"http://weights.example.com": false, "dns+http://weights.example.com": false, "http://192.0.2.1": false,
		"http://localhost.example.com": false, "http://127.0.0.1.example.com": false, "http://0.0.0.0": false,
		"http://[::ffff:127.0.0.1]:1": true,
	} {
		u, err := url.Parse(text)
		require.NoError(t, err)
		assert.Equal(t, want, remote.MayHaveToken(u), text)
	}
	pair := identity(t)
	u, asked := serveAs(t, pair)
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	c := remote.New(remote.Options{
		Timeout: time.Minute, RootCAs: func() *x509.CertPool { return roots },
		Identity: remote.Identity{Token: func() string { return "s3same" }},
	})
	defer c.Close()
	_, err := c.Get(t.Context(), remote.NewServer(u), remote.Request{})
	require.Error(t, err, "the certificate has no name")
	assert.Empty(t, asked)
}
