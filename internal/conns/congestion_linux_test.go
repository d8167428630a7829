package conns

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
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
	first := connected(t)
	if err := setCongestion(connected(t), lossyControl); err != nil {
		t.Skip(err)
	}
	c := newControl(slog.New(slog.DiscardHandler))
	host := netip.MustParsePrefix("192.0.2.1/32")
	assert.False(t, c.begin(first, host))
	var way suspicion
	c.look(first, host, &way)
	assert.Equal(t, "reno", controlled(t, first), "loopback loses nothing")
	for n := range uint32(signs + 1) {
		c.take(first, host, &way, trips(longTrip*5, n))
	}
	assert.Equal(t, lossyControl, controlled(t, first))
	second := connected(t)
	require.True(t, c.begin(second, host))
	assert.Equal(t, lossyControl, controlled(t, second))
	assert.False(t, c.begin(connected(t), netip.MustParsePrefix("192.0.2.2/32")), "another host")
	way = suspicion{}
	c.look(second, host, &way)
	assert.True(t, way.ended, "there is nothing to change any more")
}
