// Package server is the HTTP face of a catalog: it routes, wraps and answers requests. It
// answers from what is held and arriving at the moment of the request, so a version that
// another process publishes is served at once. It refuses to know where versions are, and
// how they come there. docs/protocol.md describes the answers.
//
//	GET /distribution.txt       the versions on offer
//	GET /v1/manifest.json       the manifest of version 1
//	GET /v1/SHA256SUMS          the digests of its shards, for sha256sum -c
//	GET /v1/BLAKE3              its BLAKE3, where that is known
//	GET /v1/have?digest=...     which shards are here, line by line; see package swarm
//	GET /v1/shard_001.bin       one shard, also as shard_00001.bin
//	GET /healthz                200 while the server runs
//	GET /readyz                 200 while it serves the newest version, or 503 and the reason
//	GET /metrics                metrics for Prometheus
//	GET /peers.txt              members of the server's swarm
//	GET /                       the status page; see package status
//	GET /status.json            the same for programs
//	GET /data1.bin              bytes to measure the server by; in the dialect of 0.3
//
// A request passes a chain of handlers: routing reads the path, counting sees the answer on
// its way, pages keeps web pages of other sites out, reading admits methods, and answering
// calls the endpoint. [slots.Limits] and a swarm's slots wrap the endpoints that they are for.
//
// What a caller may lean on: an answer's ETag is a digest of its bytes, that of
// distribution.txt also of release.txt; an endpoint that returns an error has sent nothing; the
// kernel sends shards, from the page cache to the socket, unless a rate is set; and no request,
// however slow its reader, holds up another.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/conns"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/slots"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// grace is how long answers may go on after the end of [Serve]'s context.
	grace = 30 * time.Second

	// sweepEvery is the interval between two looks at retired versions, and sweepIdle how
	// long one of them is kept after its last reader.
	sweepEvery = 10 * time.Second
	sweepIdle  = time.Minute
)

// Options describe a server. Catalog and Logger are required.
type Options struct {
	// Catalog is what is served.
	Catalog *catalog.Catalog

	// Dialect is that of paths that name none. Zero is DialectOwn.
	Dialect Dialect

	// Limits bound the sending of shards. The zero value sets no limit.
	Limits slots.Limits

	// Congestion is the congestion control of connections, see [conns.Options].
	Congestion string

	// Web says which web pages may read. The zero value is for those of this server alone.
	Web Web

	// Tokens say who may read. Nil is for all that reach the server.
	Tokens *Tokens

	// Nodes are the peers of this node by TLS. Nil is for none.
	Nodes *Nodes

	// AdminAddr is a second address, host:port, for the inside of the server: the status, the
	// metrics, /readyz and, as at the first one, /healthz. It asks for no token, and the first
	// address then has the others alone. It never speaks TLS. Without a host it is one of loopback. Empty is for none.
	AdminAddr string

	// Open says that all that reach the server may read, so that it need not warn of that.
	Open bool

	// Metrics count the answers. Nil counts nothing, and has no /metrics.
	Metrics *metrics.Metrics

	// TLS is how the server speaks TLS. Nil is for a server that does not.
	TLS *TLS

	// AccessLog receives a line for each answer, in one call of Write and never two at the
	// same time. Nil is for none.
	AccessLog io.Writer

	// Status has the server show its status at / and /status.json. Nil is for no such page.
	Status *Status

	// Ready returns why the newest version anywhere is not served here, or nil. Nil is for a
	// server that has all versions.
	Ready func() error

	// Withdrawn reports whether a version that is not here was withdrawn. Nil is for a server
	// that knows all that were.
	Withdrawn func(ctx context.Context, v shard.Version) bool

	// Members are the nodes that follow this server and swap shards. Nil is for none, and
	// has no /peers.txt. With members, and with a catalog without a directory, the server
	// lists its shards to nodes, and sends them shards as package swarm says.
	Members *swarm.Members

	// Logger receives failures, and each refused shard and held request at debug level.
	Logger *slog.Logger
}

// NewHandler returns a handler that holds no requests until there is news, which takes
// [Serve].
func NewHandler(opts Options) http.Handler { return newHandler(opts, nil) }

// Serve answers requests on ln until ctx ends. Then it accepts no more, answers those that
// it holds, finishes answers for 30 seconds at most, and returns nil. It closes ln. While
// it runs it also removes retired versions without readers for a minute, and all of them
// before and after.
func Serve(ctx context.Context, ln net.Listener, opts Options) error {
	c, logger := opts.Catalog, opts.Logger
	if err := c.Sweep(0); err != nil {
		return errors.Join(err, ln.Close())
	}
	inside, err := listenInside(ctx, opts.AdminAddr)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	group, ctx := errgroup.WithContext(ctx)
	handler := newHandler(opts, ctx.Done())
	if inside != nil {
		logger.Info("listening for operators", "addr", inside.Addr().String())
	}
	logger.Info("listening", "addr", ln.Addr().String(), "data_dir", c.Dir(), "tls", opts.TLS != nil)
	if !opts.Open && opts.Tokens == nil && !opts.TLS.isMutual() {
		warnOpen(ln.Addr(), logger)
	}
	group.Go(func() error {
		return conns.Serve(ctx, ln, handler, conns.Options{
			Over: opts.TLS.over, Grace: grace, Congestion: opts.Congestion, Metrics: opts.Metrics, Logger: logger,
		})
	})
	if inside != nil {
		if !opts.Open {
			warnOpen(inside.Addr(), logger)
		}
		group.Go(func() error {
			return conns.Serve(ctx, inside, handler.admin, conns.Options{Metrics: opts.Metrics, Logger: logger})
		})
	}
	if opts.Nodes != nil {
		group.Go(func() error { return serveNodes(ctx, handler, opts) })
	}
	group.Go(func() error {
		handler.hashing.follow(ctx, handler.listings.Look)
		return nil
	})
	if opts.Dialect == Dialect03 {
		handler.hashing.want() // before the first broadcast
	}
	group.Go(func() error {
		opts.Tokens.follow(ctx)
		return nil
	})
	group.Go(func() error {
		c.Watch(ctx, handler.listings, catalog.LookEvery, logger)
		return nil
	})
	group.Go(func() error {
		handler.overview.Follow(ctx)
		return nil
	})
	group.Go(func() error {
		opts.TLS.follow(ctx)
		return nil
	})
	group.Go(func() error {
		sweep(ctx, c, logger)
		return nil
	})
	return errors.Join(group.Wait(), c.Sweep(0))
}

// listenInside listens on the second address, or returns nil where there is none.
func listenInside(ctx context.Context, addr string) (net.Listener, error) {
	if addr == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", wire.LocalAddress(addr))
	if err != nil {
		return nil, fmt.Errorf("serve operators: %w", err)
	}
	return ln, nil
}

// warnOpen warns that other machines can reach a server at addr, which asks for nothing.
func warnOpen(addr net.Addr, logger *slog.Logger) {
	if at, ok := addr.(*net.TCPAddr); ok && !at.IP.IsLoopback() {
		logger.Warn("every machine that reaches this address can read from it", "addr", addr.String(),
			"hint", "give --read-tokens to ask for tokens, --host 127.0.0.1 to serve this machine alone, or --open "+
				"if whatever reaches it may read")
	}
}

// ServeBoard serves the shards of a catalog without a directory to nodes of a swarm, and
// nothing else, on ln until ctx ends. Then it breaks off all answers, since other nodes
// have the shards, too, and returns nil. It closes ln.
func ServeBoard(ctx context.Context, ln net.Listener, opts Options) error {
	handler := newHandler(opts, ctx.Done())
	if opts.Nodes != nil {
		return serveNodes(ctx, handler, opts)
	}
	opts.Logger.Info("sharing", "addr", ln.Addr().String())
	return conns.Serve(ctx, ln, handler,
		conns.Options{Congestion: opts.Congestion, Metrics: opts.Metrics, Logger: opts.Logger})
}

// serveNodes serves the shards to the nodes of opts until ctx ends.
func serveNodes(ctx context.Context, handler *handler, opts Options) error {
	ln := opts.Nodes.Listener
	opts.Logger.Info("sharing", "addr", ln.Addr().String(), "tls", true)
	return conns.Serve(ctx, ln, handler.nodes, conns.Options{
		Over: opts.Nodes.over, Congestion: opts.Congestion, Metrics: opts.Metrics, Logger: opts.Logger,
	})
}

// UnlessOver returns err, or nil if err is the cause of the end of ctx: a server whose
// context ends before it has begun has ended well.
func UnlessOver(ctx context.Context, err error) error {
	if errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}

// sweep removes retired versions some time after their last reader, until ctx ends.
func sweep(ctx context.Context, c *catalog.Catalog, logger *slog.Logger) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := c.Sweep(sweepIdle); err != nil {
				logger.Error("retired version not removed", "err", err)
			}
		}
	}
}
