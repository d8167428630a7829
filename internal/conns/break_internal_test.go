package conns

import (
	"crypto/tls"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/credential"
)

// Connections are cut under the lock of all connections.
func TestNoCutWaitsForTheClientToHearOfIt(t *testing.T) {
	pair, err := credential.NewIdentity()
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe() // which takes no byte that nobody reads
		client := tls.Client(far, credential.Pinned(credential.KeyDigest(pair.Leaf), nil))
		conn := tls.Server(near, &tls.Config{Certificates: []tls.Certificate{pair}, SessionTicketsDisabled: true})
		shaken := make(chan error, 1)
		go func() { shaken <- client.HandshakeContext(t.Context()) }()
		require.NoError(t, conn.HandshakeContext(t.Context()))
		require.NoError(t, <-shaken)
		begun := time.Now()
		BreakOff(conn)
		assert.Zero(t, time.Since(begun))
	})
}
