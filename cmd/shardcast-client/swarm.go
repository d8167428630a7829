package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
)

// peering says where, and for how long after a download, to serve peers.
type peering struct {
	host    string
	port    cli.Port
	seedFor time.Duration
	ready   *cli.Ready
}

func (p *peering) add(flags *pflag.FlagSet, o *shardcast.ClientOptions) {
	cli.SwarmFlags(flags, &o.Swarm, "swap shards with peers, where the servers have --swarm", "peers")
	flags.StringVar(&p.host, "host", "",
		"with --swarm: `NAME` or address of the interface to serve peers on (default all)")
	flags.Var(&p.port, "port", "with --swarm: TCP port to serve peers on (0: any free port)")
	cli.CongestionFlag(flags, &o.Congestion, "peers, with --swarm")
	cli.Env(flags, "port", "SHARDCAST_PORT") // SHARDCAST_HTTP_PORT is the servers' here
	p.ready = cli.ReadyFlag(flags, "client", "with --swarm, when peers are served")
}

func (p *peering) addSeed(flags *pflag.FlagSet) {
	flags.Var((*cli.Patience)(&p.seedFor), "seed-for",
		"with --swarm: time to serve peers after the download, in seconds (default 0)")
}

// during runs do, and with --swarm serves peers meanwhile. A failure there does not end do.
func (d *download) during(ctx context.Context, s *session, do func(context.Context) error) error {
	if !d.opts.Swarm.Enabled {
		return do(ctx)
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(d.peers.host, d.peers.port.String()))
	if err != nil {
		return fmt.Errorf("serve peers: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	serving, stop := context.WithCancel(ctx)
	group.Go(func() error {
		if err := s.client.Serve(serving, d.peers.ready.Listener(ln, s.logger)); err != nil {
			s.logger.Warn("peers are no longer served", "addr", ln.Addr().String(), "err", err)
		}
		return nil
	})
	group.Go(func() error {
		defer stop()
		return do(ctx)
	})
	return group.Wait()
}

// seed serves peers for the time of --seed-for. If ctx ends before, it returns the cause.
func (p *peering) seed(ctx context.Context, s *session) error {
	if p.seedFor == 0 {
		return nil
	}
	s.logger.Info("seeding", "for", p.seedFor)
	defer func() { s.logger.Info("seeded", "given", s.client.Given()) }()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(p.seedFor):
		return nil
	}
}
