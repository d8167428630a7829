// Package conns answers which connections a server has: it accepts them, bounds them by the
// descriptors of the process, breaks off those that stand still, and says what the kernel holds
// of an answer. It refuses to know what is served on them.
//
// A caller may lean on this: connections are left for files and upstreams; at the bound the
// longest idle one goes first, then one of the host with most; and no connection is waited for
// when it is broken off.
package conns

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/trip"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// HeaderTimeout is how long a client may take over a request's header.
	HeaderTimeout = 10 * time.Second

	// MaxHeader in bytes bounds a header, far above those of our clients.
	MaxHeader = 16 << 10

	// stallTimeout is how long a client may accept none of the bytes of an answer. A receiver
	// with full buffers reports room only in steps of a sixteenth of them, so one that reads
	// 4 KB/s still looks alive.
	stallTimeout = 2 * time.Minute
)

// Options say how connections are served. Logger is required.
type Options struct {
	// Over returns a listener of connections over those of another one, such as of TLS. Nil is
	// for plain ones.
	Over func(net.Listener) net.Listener

	// Grace is how long answers may go on after the end of the context. Zero breaks them off.
	Grace time.Duration

	// Congestion is the congestion control of the connections: [Auto], [System], or a name of
	// the kernel's. Empty is System.
	Congestion string

	// Metrics count the connections. Nil counts nothing.
	Metrics *metrics.Metrics

	// Logger receives warnings of too many connections, and failures of connections at debug
	// level.
	Logger *slog.Logger
}

// Serve has handler answer the requests on ln until ctx ends. Then it accepts no more, finishes
// answers as long as the options say, and returns nil. It closes ln.
func Serve(ctx context.Context, ln net.Listener, handler http.Handler, opts Options) error {
	if name := opts.Congestion; name != "" && name != Auto && name != System {
		if err := setCongestion(ln, name); err != nil { // its connections inherit it
			return errors.Join(fmt.Errorf("serve on %s: %w; sysctl net.ipv4.tcp_available_congestion_control "+
				"lists those there are", ln.Addr(), err), ln.Close())
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	srv := newServer(handler, opts)
	group.Go(func() error {
		if err := srv.serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return srv.end(ctx, ln.Addr())
	})
	return group.Wait()
}

// key is the key of a connection, a [net.Conn], in the contexts of its requests.
type key struct{}

// Of returns the connection of a request, or nil if that has come from no [Serve].
func Of(r *http.Request) net.Conn {
	conn, _ := r.Context().Value(key{}).(net.Conn)
	return conn
}

// HoldLittle bounds the unsent bytes in the kernel of the answer to r, and of all others on its
// connection from now on, where the system has that. Without it they are up to 4 MB. Where readers are
// few it costs processor time: a bound of 16 KiB twice that of a byte, with a hundred readers.
func HoldLittle(r *http.Request, unsent int) {
	if conn := Of(r); conn != nil {
		hold(conn, unsent)
	}
}

// Taken is how much a client has taken of a connection, and whether the kernel has more for it:
// if not, it is the server that is slow.
type Taken struct {
	Bytes int64
	More  bool
}

// below returns the connection below conn, if that is one of TLS, and conn otherwise.
func below(conn net.Conn) net.Conn {
	if over, ok := conn.(*tls.Conn); ok {
		return over.NetConn()
	}
	return conn
}

// Trip returns the least round trip of a connection so far, or 0 where that is not known.
func Trip(conn net.Conn) time.Duration {
	least, _ := trip.Least(below(conn))
	return least
}

// BreakOff closes a connection without a word: one of TLS would first try for 5 s to tell the
// client.
func BreakOff(conn net.Conn) { _ = below(conn).Close() }

// bounded is a server with bounded connections.
type bounded struct {
	http        *http.Server
	connections *connections
	opts        Options
}

// newServer returns a server of handler.
func newServer(handler http.Handler, opts Options) bounded {
	c := newConnections(descriptors(), opts.Metrics, opts.Logger)
	if opts.Congestion == Auto {
		c.control = newControl(opts.Logger)
	}
	return bounded{connections: c, opts: opts, http: &http.Server{
		Handler:           c.handle(handler),
		ConnState:         c.notice,
		ReadHeaderTimeout: HeaderTimeout,
		IdleTimeout:       wire.ServerIdle,
		MaxHeaderBytes:    MaxHeader,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, key{}, conn)
		},

		DisableGeneralOptionsHandler: true, // our handler answers, with 405
		ErrorLog:                     log.New(errorLog{opts.Logger}, "", 0),
	}}
}

// serve answers requests on ln.
func (s bounded) serve(ln net.Listener) error {
	var all net.Listener = accepting{listener{ln, stallTimeout}, s.connections}
	if s.opts.Over != nil {
		all = s.opts.Over(all)
	}
	return s.http.Serve(all)
}

// end ends the server, which listens at addr.
func (s bounded) end(ctx context.Context, addr net.Addr) error {
	if s.opts.Grace == 0 {
		return s.http.Close()
	}
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Grace)
	defer cancel()
	closed := make(chan struct{})
	s.http.RegisterOnShutdown(func() { // when no connection is accepted any more
		s.opts.Logger.Info("ending", "addr", addr.String(), "grace", s.opts.Grace)
		close(closed)
	})
	err := s.http.Shutdown(finish)
	<-closed
	if err != nil {
		s.opts.Logger.Warn("downloads cut off", "err", err)
		return s.http.Close()
	}
	return nil
}
