package remote

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// ends returns the ends of a connection.
func ends(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	to, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	from, err := ln.Accept()
	require.NoError(t, err)
	near, _ = to.(*net.TCPConn)
	far, _ = from.(*net.TCPConn)
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	require.NoError(t, near.SetDeadline(time.Now().Add(30*time.Second)))
	return near, far
}

// watermark returns how much the kernel gathers for the reader of a connection.
func watermark(t *testing.T, conn *net.TCPConn) (bytes int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		bytes, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT)
	}))
	require.NoError(t, err)
	return bytes
}

func TestWhatTheKernelGathersComesWhenNothingMoreDoes(t *testing.T) {
	near, far := ends(t)
	g := gather(near, 1<<20)
	g.change(mostGathered)
	require.Equal(t, mostGathered, watermark(t, near))
	read := make(chan int)
	go func() {
		n, _ := near.Read(make([]byte, 1<<20))
		read <- n
	}()
	_, err := far.Write(make([]byte, 1000))
	require.NoError(t, err)
	assert.Equal(t, 1000, <-read, "it is kept for ever")
	assert.Eventually(t, func() bool { return watermark(t, near) == 1 }, 30*time.Second, time.Millisecond)
}

func TestTheEndOfAnAnswerIsNotGathered(t *testing.T) {
	near, _ := ends(t)
	g := gather(near, 1<<20)
	g.change(mostGathered)
	g.read(1<<20 - 2*mostGathered)
	assert.Equal(t, mostGathered, watermark(t, near))
	g.read(1)
	assert.Equal(t, 1, watermark(t, near))
	again := gather(near, 1<<20)
	again.change(mostGathered)
	require.Equal(t, mostGathered, watermark(t, near))
	again.end()
	assert.Equal(t, 1, watermark(t, near), "the connection is used again")
}

func TestAsMuchIsGatheredAsComesInAMoment(t *testing.T) {
	near, _ := ends(t)
	g := gather(near, 1<<30)
	g.at = time.Now().Add(-gatherEvery)
	g.read(int(1e6 * gatherEvery.Seconds()))
	assert.InDelta(t, 1e6*gatherFor.Seconds(), watermark(t, near), 2*page)
	assert.EqualValues(t, 1, gathered(100e3), "no more than two packets")
	assert.EqualValues(t, mostGathered, gathered(1e9))
	small := gather(near, 4*mostGathered-1)
	assert.Nil(t, small.conn, "a small answer has an end alone")
}
