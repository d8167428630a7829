//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardcast/shardcast/scripts/internal/spread"
)

// readSize in bytes is the size of a read whose bytes are discarded.
const readSize = 64 << 10

// A connection to a server carries one request after the other. It does less for each
// than net/http's client, so that the server is measured, and not the client.
type connection struct {
	net.Conn

	r *bufio.Reader
}

// connectTo connects to a server, by TLS where it speaks that, until ctx ends.
func connectTo(ctx context.Context, s *server) (*connection, error) {
	c, err := connect(ctx, s.address)
	if err != nil || s.over == nil {
		return c, err
	}
	over := tls.Client(c.Conn, s.over)
	if err := over.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return newConnection(over), nil
}

// connect connects to a server until ctx ends.
func connect(ctx context.Context, address string) (*connection, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := newConnection(conn)
	context.AfterFunc(ctx, c.hangUp)
	return c, nil
}

func newConnection(conn net.Conn) *connection {
	return &connection{conn, bufio.NewReaderSize(conn, 4<<10)}
}

// hangUp closes it.
func (c *connection) hangUp() { _ = c.Close() }

// ask sends a request with more header lines, each of which ends with CR and LF, and
// reads the header of the answer.
func (c *connection) ask(path, header string) (*http.Response, error) {
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: bench\r\n"+header+"\r\n"); err != nil {
		return nil, err
	}
	return http.ReadResponse(c.r, nil)
}

// get reads all at path into buf, piece by piece, and calls got for each.
func (c *connection) get(path string, buf []byte, got func(n int)) (err error) {
	resp, err := c.ask(path, "")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	for {
		n, err := resp.Body.Read(buf)
		got(n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// A load is many readers of one server, each of which reads one shard after the other
// and discards them.
type load struct {
	server  *server
	paths   []string
	readers int
	idle    int // connections with one request each
	span    time.Duration
}

// run reads for the span of the load, and returns the server's cost.
func (l load) run(ctx context.Context) (Sample, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.span+patience, errors.New("the server does not answer"))
	defer cancel() // which closes all connections
	if err := l.rest(ctx); err != nil {
		return nil, err
	}
	conns := make([]*connection, l.readers)
	for i := range conns {
		var err error
		if conns[i], err = connectTo(ctx, l.server); err != nil {
			return nil, err
		}
	}
	r := newReaders(conns, l.paths)
	s, err := l.steady(ctx, r)
	r.stopping.Store(true)
	cancel()
	r.group.Wait()
	return s, err
}

// steady returns the server's cost while readers read that have had a while to begin.
func (l load) steady(ctx context.Context, r *readers) (Sample, error) {
	if err := r.read(ctx, l.span/4); err != nil {
		return nil, err
	}
	begin, had := time.Now(), r.bytes()
	before, err := cpu(l.server.process)
	if err != nil {
		return nil, err
	}
	if err := r.read(ctx, l.span); err != nil {
		return nil, err
	}
	took, got := time.Since(begin), r.bytes()
	after, err := cpu(l.server.process)
	if err != nil {
		return nil, err
	}
	sum := 0.0
	for i := range got {
		got[i] -= had[i]
		sum += got[i]
	}
	s := Sample{Wall: took.Seconds(), CPU: after - before, Peak: l.server.process.Peak()}.add(int64(sum))
	if all := spread.Of(got); l.readers > 1 && all.Median > 0 {
		s[Fair] = all.Least / all.Median
	}
	return s, nil
}

// readers read, each over its own connection, until they are stopping and the connection
// is closed.
type readers struct {
	got      []atomic.Int64 // bytes, of each
	failed   chan error
	stopping atomic.Bool
	group    sync.WaitGroup
}

// newReaders returns readers that begin at once, each with another of the paths.
func newReaders(conns []*connection, paths []string) *readers {
	r := &readers{got: make([]atomic.Int64, len(conns)), failed: make(chan error, len(conns))}
	for i, conn := range conns {
		r.group.Go(func() {
			buf := make([]byte, readSize)
			for n := i; ; n++ {
				err := conn.get(paths[n%len(paths)], buf, func(n int) { r.got[i].Add(int64(n)) })
				if r.stopping.Load() {
					return
				}
				if err != nil {
					r.failed <- err
					return
				}
			}
		})
	}
	return r
}

// read lets them read for a while.
func (r *readers) read(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case err := <-r.failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// bytes are the bytes that each has read so far.
func (r *readers) bytes() []float64 {
	values := make([]float64, len(r.got))
	for i := range r.got {
		values[i] = float64(r.got[i].Load())
	}
	return values
}

// rest opens the idle connections.
func (l load) rest(ctx context.Context) error {
	buf := make([]byte, readSize)
	for range l.idle {
		conn, err := connectTo(ctx, l.server)
		if err != nil {
			return err
		}
		if err := conn.get("/distribution.txt", buf, func(int) {}); err != nil {
			return err
		}
	}
	return nil
}
