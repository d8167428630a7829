package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/credential"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/swarm"
)

// certified returns the files of a certificate that its own key has signed.
func certified(t *testing.T) server.TLSFiles {
	t.Helper()
	pair, err := credential.NewIdentity()
	require.NoError(t, err)
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	dir := t.TempDir()
	files := server.TLSFiles{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	require.NoError(t, os.WriteFile(files.Cert, text, 0o600))
	text = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	require.NoError(t, os.WriteFile(files.Key, text, 0o600))
	return files
}

// speaking returns how a server speaks TLS in tests.
func speaking(t *testing.T) *server.TLS {
	t.Helper()
	spoken, err := server.NewTLS(certified(t), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return spoken
}

// trusting dials a server in TLS, whoever it is.
func trusting(ctx context.Context, dialer *net.Dialer, addr string) (net.Conn, error) {
	over := tls.Dialer{NetDialer: dialer, Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // of a test
	return over.DialContext(ctx, "tcp", addr)
}

// An upstream lists a node only by the key that the node has.
func TestOnlyANodeWithItsKeyIsReached(t *testing.T) {
	identity, err := credential.NewIdentity()
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- server.ServeBoard(ctx, ln, server.Options{
			Catalog: catalog.New(nil, relay.NewBoard()), Logger: slog.New(slog.DiscardHandler),
			Nodes: &server.Nodes{Listener: ln, Certificate: identity, Tickets: swarm.NewTickets()},
		})
	}()
	at := netip.MustParseAddrPort(ln.Addr().String())
	key := swarm.Key(credential.KeyDigest(identity.Leaf))
	require.NoError(t, server.Reach(t.Context(), swarm.Peer{At: at, Key: key}))
	require.ErrorContains(t, server.Reach(t.Context(), swarm.Peer{At: at, Key: swarm.Key{1}}), "another key")
	require.Error(t, server.Reach(t.Context(), swarm.Peer{At: at}), "it speaks no plain HTTP")
	cancel()
	require.NoError(t, <-ended)
}

func TestTLSIs13AndHTTP1Alone(t *testing.T) {
	st := open(t, t.TempDir())
	publish(t, st, 1, text)
	s := serveAs(t, server.Options{
		Catalog: catalog.New(st, nil), TLS: speaking(t), Logger: slog.New(slog.DiscardHandler),
	})
	client := func(c *tls.Config) *http.Client {
		c.InsecureSkipVerify = true
		transport := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	get := func(c *http.Client) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.addr+shardPath, http.NoBody)
		require.NoError(t, err)
		return c.Do(r)
	}
	resp, err := get(client(&tls.Config{}))
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, text[:10], string(body), "the first shard")
	assert.Equal(t, 1, resp.ProtoMajor)
	assert.EqualValues(t, tls.VersionTLS13, resp.TLS.Version)
	_, err = get(client(&tls.Config{MaxVersion: tls.VersionTLS12})) //nolint:bodyclose // there is none
	assert.ErrorContains(t, err, "protocol version")
}
