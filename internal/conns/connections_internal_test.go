package conns

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/metrics"
)

// journal is a log that several goroutines write.
type journal struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// narrow is a server that may have four connections, and whose requests for /held are
// answered when held is closed.
type narrow struct {
	addr    string
	held    chan struct{}
	metrics *metrics.Metrics
	log     *journal
}

func newNarrow(t *testing.T) *narrow {
	t.Helper()
	n := &narrow{held: make(chan struct{}), metrics: metrics.New("origin", "1"), log: new(journal)}
	logger := slog.New(slog.NewTextHandler(n.log, nil))
	srv := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic("a fault of ours")
		}
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path == "/held" {
			<-n.held
		}
	}), Options{Metrics: n.metrics, Logger: logger})
	srv.connections.most = 4
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n.addr = ln.Addr().String()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.serve(ln)
	}()
	t.Cleanup(func() {
		_ = srv.http.Close()
		<-ended
	})
	return n
}

// dial connects from the loopback address from, and sends text.
func (n *narrow) dial(t *testing.T, from, text string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", n.addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	_, err = fmt.Fprint(conn, text)
	require.NoError(t, err)
	return conn
}

// ask waits for the answer to a request for a path has begun.
func (n *narrow) ask(t *testing.T, from, path string) (net.Conn, error) {
	t.Helper()
	conn := n.dial(t, from, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
	_, err := http.ReadResponse(bufio.NewReader(conn), nil) //nolint:bodyclose // the connection is closed
	return conn, err
}

// isCut waits for the end of a connection that nothing is read from.
func isCut(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, conn)
	var late net.Error
	require.False(t, errors.As(err, &late) && late.Timeout(), "the connection is still open")
}

func TestIdleConnectionsMakeRoomForNewOnes(t *testing.T) {
	n := newNarrow(t)
	silent := n.dial(t, "127.0.0.1", "")
	for i := range 20 {
		text := ""
		if i%2 == 0 {
			text = "GET / HTTP/1.1\r\nHost: slow" // the rest of its header does not come
		}
		n.dial(t, "127.0.0.1", text)
	}
	isCut(t, silent)
	_, err := n.ask(t, "127.0.0.1", "/")
	require.NoError(t, err, "idle connections keep others out")
	text, err := n.metrics.Text()
	require.NoError(t, err)
	assert.Contains(t, string(text), `shardcast_cut_connections_total{reason="idle"} 18`)
	assert.Contains(t, string(text), "shardcast_open_connections 4\n", "as many as there may be")
	assert.Equal(t, 1, strings.Count(n.log.String(), `level=WARN msg="too many connections"`), "once a minute")
}

func TestOneHostDoesNotKeepAllConnectionsBusy(t *testing.T) {
	n := newNarrow(t)
	defer close(n.held)
	var busy []net.Conn
	for range 4 {
		conn, err := n.ask(t, "127.0.0.1", "/held")
		require.NoError(t, err)
		busy = append(busy, conn)
	}
	_, err := n.ask(t, "127.0.0.1", "/")
	require.Error(t, err, "it has all of them already")
	_, err = n.ask(t, "127.0.0.2", "/")
	require.NoError(t, err, "another host has none")
	isCut(t, busy[0])
}

func TestAPanicIsLoggedAsAnError(t *testing.T) {
	n := newNarrow(t)
	_, err := n.ask(t, "127.0.0.1", "/panic")
	require.Error(t, err)
	assert.Eventually(t, func() bool {
		return strings.Contains(n.log.String(), `level=ERROR msg="request panicked"`)
	}, 30*time.Second, time.Millisecond)
	assert.Contains(t, n.log.String(), "a fault of ours")
}

// scarce is a listener without descriptors for new connections, at first.
type scarce struct {
	net.Listener

	failed bool
}

func (l *scarce) Accept() (net.Conn, error) {
	if !l.failed {
		l.failed = true
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return nil, net.ErrClosed
}

func TestAServerWithoutDescriptorsClosesAnIdleConnectionAndSaysSo(t *testing.T) {
	log := new(journal)
	c := newConnections(400, nil, slog.New(slog.NewTextHandler(log, nil)))
	assert.Equal(t, 300, c.most)
	ours, theirs := net.Pipe()
	defer func() { _ = theirs.Close() }()
	c.add(ours)
	_, err := accepting{new(scarce), c}.Accept()
	require.ErrorIs(t, err, syscall.EMFILE)
	_, err = theirs.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	assert.Contains(t, log.String(), "level=WARN")
}

func TestAHeaderThatNeverEndsIsNotWaitedForForEver(t *testing.T) {
	srv := newServer(http.NotFoundHandler(), Options{Logger: slog.New(slog.DiscardHandler)}).http
	require.Positive(t, srv.IdleTimeout)
	require.Positive(t, srv.ReadHeaderTimeout)
	srv.ReadHeaderTimeout = 50 * time.Millisecond
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error)
	go func() { ended <- srv.Serve(ln) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprint(conn, "GET / HTTP/1.1\r\nX-Never: ")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	_, err = io.ReadAll(conn)
	require.NoError(t, err, "the server has not closed the connection")
	require.NoError(t, srv.Close())
	require.ErrorIs(t, <-ended, http.ErrServerClosed)
}
