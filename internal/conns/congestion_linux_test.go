package conns

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"golang.org/x/sys/unix"

	"github.com/shardcast/shardcast/internal/trip"
)

// controlled returns the congestion control of a connection.
func controlled(t *testing.T, conn net.Conn) (name string) {
	t.Helper()
	tcp, ok := conn.(*net.TCPConn)
	require.True(t, ok)
	raw, err := tcp.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	}))
	require.NoError(t, err)
	return name
}

// connected returns the ends of a connection over loopback, by Reno.
func connected(t *testing.T) net.Conn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	require.NoError(t, setCongestion(ln, "reno"), "all systems have it")
	far, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = far.Close() })
	near, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = near.Close() })
	require.Equal(t, "reno", controlled(t, near), "connections inherit that of the listener")
	return near
}

func TestALossyWayGetsBBRAndItsHostIsRemembered(t *testing.T) {
	first, beside := connected(t), connected(t)
	if err := setCongestion(connected(t), lossyControl); err != nil {
		t.Skip(err)
	}
	c := newControl(slog.New(slog.DiscardHandler))
	host, other := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32")
	ways := make([]way, 3)
	seen := []sight{{first, &ways[0]}, {beside, &ways[1]}}
	c.look(map[netip.Prefix][]sight{host: seen})
	assert.Equal(t, "reno", controlled(t, first), "loopback loses nothing")
	for n := range uint32(signs) {
		lost := step{trips(trip.Long*5, n), trips(trip.Long*5, n+1)}
		whole := step{trips(trip.Long*5, 0), trips(trip.Long*5, 0)}
		c.take(host, seen, []step{lost, whole})
	}
	assert.Equal(t, lossyControl, controlled(t, first))
	assert.Equal(t, lossyControl, controlled(t, beside), "it has the same way, and has lost nothing yet")
	next, foreign := connected(t), connected(t)
	c.begin(next, host)
	assert.Equal(t, lossyControl, controlled(t, next))
	c.begin(foreign, other)
	assert.Equal(t, "reno", controlled(t, foreign), "another host")
	c.look(map[netip.Prefix][]sight{host: {{next, &ways[2]}}})
	assert.True(t, ways[2].ended, "there is nothing to change any more")
}
