package trip_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/trip"
)

func TestTheWayOfAConnectionWithinThisMachineIsShort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	conn, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	least, ok := trip.Least(conn)
	assert.True(t, ok)
	assert.Positive(t, least)
	assert.Less(t, least, trip.Long)
	require.NoError(t, conn.Close())
	_, ok = trip.Least(conn)
	assert.False(t, ok)
	one, other := net.Pipe()
	t.Cleanup(func() { _ = one.Close() })
	t.Cleanup(func() { _ = other.Close() })
	_, ok = trip.Least(one)
	assert.False(t, ok)
}
