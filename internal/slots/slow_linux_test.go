package slots

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/conns"
)

// Of a reader that has taken all that there was for it, the server is the slow one.
func TestOnlyAReaderThatLeavesBytesLosesItsSlotAsSlow(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	reader, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = reader.Close() })
	conn, err := listener.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })

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
	_, err = conn.Write([]byte("the connection stands"))
	require.NoError(t, err)

	// From some write on, the sockets take no more.
	for begun := time.Now(); !errors.Is(err, net.ErrClosed); {
		require.Less(t, time.Since(begun), time.Minute, "a reader that leaves bytes keeps its slot")
		if err = conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err == nil {
			_, err = conn.Write(make([]byte, 1<<20))
			look()
		}
	}
}
