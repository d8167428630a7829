package slots

import (
	"bytes"
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/conns"
)

// Of a reader that has taken all that there was for it, the server is the slow one.
func TestOnlyAReaderThatLeavesBytesLosesItsSlotAsSlow(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	reader, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer reader.Close()
	conn, err := listener.Accept()
	require.NoError(t, err)
	defer conn.Close()

	s := New(1, 0)
	_, ok := s.Enter(context.Background(), Reader{Remote: "10.0.0.1:1", Conn: conn}, false)
	require.True(t, ok)
	// look has another host find no slot, a second after it has done so before.
	look := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seenAt = s.seenAt.Add(-reclaimAfter)
		s.reclaim(conns.HostOf("10.0.0.2:1"))
	}
	for range 3 {
		look()
	}
	_, err = conn.Write([]byte("nothing was sent, and the connection stands"))
	require.NoError(t, err)

	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(time.Second)))
	_, err = conn.Write(bytes.Repeat([]byte("more than the sockets take "), 4<<20))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	for range 2 {
		look()
	}
	_, err = conn.Write(nil)
	assert.ErrorIs(t, err, net.ErrClosed)
}
