package conns

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// From a connection of any other type the kernel could not send a shard by
// itself.
func TestAcceptedConnectionsAreThoseThatTheKernelSendsFilesTo(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	client, err := net.DialTimeout("tcp", ln.Addr().String(), 10*time.Second)
	require.NoError(t, err)
	defer func() { _ = client.Close() }()
	conn, err := listener{ln, time.Second}.Accept()
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.IsType(t, (*net.TCPConn)(nil), conn)
}
