package peering

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

// A node of two swarms, one of them over TLS, tells each upstream the port that is for it, and
// shows the ticket of the one to the peers that this one names, and to no other.
func TestATicketIsForThePeersOfItsUpstream(t *testing.T) {
	issuer, err := swarm.NewIssuer()
	require.NoError(t, err)
	node, err := NewNode()
	require.NoError(t, err)
	key := swarm.Key{7}
	asked := make(map[string]http.Header)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked["plain"] = r.Header
		w.Header().Set(wire.TicketKeyHeader, issuer.Public()) // which is not believed
		w.Header().Set(wire.TicketHeader, "wrong")
		fmt.Fprintf(w, "http://127.0.0.1:7\nhttps://127.0.0.1:9 %s\n", key)
	}))
	defer plain.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked["secure"] = r.Header
		w.Header().Set(wire.TicketKeyHeader, issuer.Public())
		w.Header().Set(wire.TicketHeader, issuer.Issue(node.Key, time.Now()))
		fmt.Fprintf(w, "http://127.0.0.1:7\nhttps://127.0.0.1:8 %s\n", key)
	}))
	defer secure.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	client := remote.New(remote.Options{Timeout: time.Minute, RootCAs: func() *x509.CertPool { return roots }})
	defer client.Close()
	urlOf := func(s *httptest.Server) *url.URL {
		u, err := url.Parse(s.URL)
		require.NoError(t, err)
		return u
	}
	w, upstreams := swarmOf(t, Options{Remote: client, Node: node}, urlOf(plain), urlOf(secure))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	require.NoError(t, w.ask(ctx, upstreams[0], 1111))
	require.ErrorIs(t, node.Tickets.Check(issuer.Issue(node.Key, time.Now()), node.Key), swarm.ErrTicket)
	require.NoError(t, w.ask(ctx, upstreams[1], 2222))
	assert.Equal(t, "1111", asked["plain"].Get(wire.PeerHeader))
	assert.Empty(t, asked["plain"].Get(wire.PeerKeyHeader))
	assert.Equal(t, "2222", asked["secure"].Get(wire.PeerHeader))
	assert.Equal(t, node.Key.String(), asked["secure"].Get(wire.PeerKeyHeader))

	peers := w.neighbours()
	require.Len(t, peers, 2)
	assert.Equal(t, "http://127.0.0.1:7", peers[0].server.Name)
	assert.Nil(t, w.show(peers[0], nil))
	assert.Equal(t, "https://127.0.0.1:8", peers[1].server.Name)
	ticket := w.show(peers[1], nil)[wire.TicketHeader]
	require.NoError(t, node.Tickets.Check(ticket, node.Key), "as another node of this swarm does")
}

// Which port is for which upstream follows from its URL.
func TestEachUpstreamLearnsOfThePortForIt(t *testing.T) {
	node, err := NewNode()
	require.NoError(t, err)
	ports := make(chan string, 2)
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ports <- r.Header.Get(wire.PeerHeader)
	})
	srv := httptest.NewTLSServer(handler)
	defer srv.Close()
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	client := remote.New(remote.Options{Timeout: time.Minute, RootCAs: func() *x509.CertPool { return roots }})
	defer client.Close()
	u, err := url.Parse(srv.URL)
	require.NoError(t, err)
	for want, secure := range map[string]net.Addr{"2222": &net.TCPAddr{Port: 2222}, "0": nil} {
		w, _ := swarmOf(t, Options{Remote: client, Node: node}, u)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.Join(ctx, &net.TCPAddr{Port: 1111}, secure)
		}()
		assert.Equal(t, want, <-ports)
		cancel()
		<-ended
		for len(ports) > 0 {
			<-ports
		}
	}
}
