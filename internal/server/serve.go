package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// headerTimeout is how long a client may take over a request's header. A
	// request has no body that anyone reads.
	headerTimeout = 10 * time.Second

	// stallTimeout is how long a client may take none of what is sent to it. How
	// fast it takes the rest is its own affair. A receiver with full buffers lets
	// the sender know of room only in steps of a sixteenth of them, so one that
	// reads 4 KB/s still looks alive.
	stallTimeout = 2 * time.Minute

	// maxHeaderSize in bytes is far above what any client of ours sends.
	maxHeaderSize = 16 << 10

	// grace is how long what is being sent may go on when the server is told to
	// end.
	grace = 30 * time.Second

	// sweepEvery is how often retired versions are looked at, and sweepIdle is
	// how long one of them is kept after its last reader.
	sweepEvery = 10 * time.Second
	sweepIdle  = time.Minute
)

// Serve answers requests on ln, as opts say, until ctx ends. Then it takes no new
// ones, answers those that it holds, finishes what it is sending, for 30 seconds at
// most, and returns nil. It closes ln. While it runs it also removes retired versions that nobody has read
// for a minute, and all of them before and after.
func Serve(ctx context.Context, ln net.Listener, opts Options) error {
	st, logger := opts.Store, opts.Logger
	if err := st.Sweep(0); err != nil {
		return errors.Join(err, ln.Close())
	}
	group, ctx := errgroup.WithContext(ctx)
	handler := newHandler(opts)
	handler.holdUntil(ctx.Done())
	srv := newServer(handler, logger)
	logger.Info("listening", "addr", ln.Addr().String(), "data_dir", st.Dir())
	serveOn(ctx, group, ln, srv, grace, logger)
	group.Go(func() error {
		handler.watch(ctx)
		return nil
	})
	group.Go(func() error {
		handler.status.follow(ctx)
		return nil
	})
	group.Go(func() error {
		sweep(ctx, st, logger)
		return nil
	})
	return errors.Join(group.Wait(), st.Sweep(0))
}

// ServeBoard serves the shards of what is on the board of opts, which have no store, to nodes
// of a swarm, and nothing else, on ln until ctx ends. Then it breaks off what it is sending,
// and returns nil: others have it too. It closes ln.
func ServeBoard(ctx context.Context, ln net.Listener, opts Options) error {
	group, ctx := errgroup.WithContext(ctx)
	handler := newHandler(opts)
	handler.holdUntil(ctx.Done())
	opts.Logger.Info("sharing", "addr", ln.Addr().String())
	serveOn(ctx, group, ln, newServer(handler, opts.Logger), 0, opts.Logger)
	return group.Wait()
}

// serveOn has srv answer on ln until ctx ends, and then for as long as grace if it is
// sending something.
func serveOn(ctx context.Context, group *errgroup.Group, ln net.Listener, srv *http.Server, grace time.Duration, logger *slog.Logger) {
	group.Go(func() error {
		if err := srv.Serve(listener{ln, stallTimeout}); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		if grace == 0 {
			return srv.Close()
		}
		finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		closed := make(chan struct{})
		srv.RegisterOnShutdown(func() { // when no connection is taken any more
			logger.Info("ending", "addr", ln.Addr().String(), "grace", grace)
			close(closed)
		})
		err := srv.Shutdown(finish)
		<-closed
		if err != nil {
			logger.Warn("downloads cut off", "err", err)
			return srv.Close()
		}
		return nil
	})
}

// connKey is what the context of a request has its connection by, a [net.Conn].
type connKey struct{}

// holdLittle has the kernel hold little of what is not sent yet on the connection of a request.
func (h *handler) holdLittle(r *http.Request) {
	if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		holdLittle(conn)
	}
}

// newServer returns a server of handler with our limits.
func newServer(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       wire.ServerIdle,
		MaxHeaderBytes:    maxHeaderSize,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conn)
		},

		DisableGeneralOptionsHandler: true, // our handler answers, with 405
		ErrorLog:                     slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

// UnlessOver returns err, or nil if err is what ended ctx: a server that is told
// to end before it has begun has ended well.
func UnlessOver(ctx context.Context, err error) error {
	if errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}

// sweep removes retired versions when their readers have left, until ctx ends.
func sweep(ctx context.Context, st *store.Store, logger *slog.Logger) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := st.Sweep(sweepIdle); err != nil {
				logger.Error("retired version not removed", "err", err)
			}
		}
	}
}
