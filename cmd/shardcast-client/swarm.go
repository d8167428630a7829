package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
)

// swarmFlags say whether and how to take part in the swarms of the servers.
type swarmFlags struct {
	cli.SwarmFlags

	host    string
	port    cli.Port
	seedFor cli.Patience
}

func (f *swarmFlags) add(flags *pflag.FlagSet) {
	f.Add(flags, "swap shards with others that fetch from the same servers with --swarm, where the servers have it, too",
		"where they may be besides those that the servers could have themselves")
	flags.StringVar(&f.host, "host", "", "`NAME` or address of the interface to serve them on (default all)")
	flags.Var(&f.port, "port", "TCP port to serve them on; 0 is any that is free")
}

func (f *swarmFlags) addSeed(flags *pflag.FlagSet) {
	flags.Var(&f.seedFor, "seed-for", "seconds to go on serving them after the download, or a duration such as 10m (default 0)")
}

// check says what is wrong with the flags.
func (f *swarmFlags) check() error {
	if opts := f.Options(); !opts.Swarm && (f.host != "" || f.port != 0 || f.seedFor != 0 || opts.SwarmAllow != nil) {
		return cli.Usage(errors.New("give --swarm with --host, --port, --seed-for and --swarm-allow"))
	}
	return nil
}

// during does do, and takes part meanwhile if the flags say so. What goes wrong with that
// does not keep do from going on.
func (f *swarmFlags) during(ctx context.Context, c *shardcast.Client, logger *slog.Logger, do func(context.Context) error) error {
	if !f.Options().Swarm {
		return do(ctx)
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(f.host, strconv.Itoa(int(f.port))))
	if err != nil {
		return fmt.Errorf("take part in a swarm: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	serving, stop := context.WithCancel(ctx)
	group.Go(func() error {
		if err := c.Serve(serving, ln); err != nil {
			logger.Warn("others are not served any more", "addr", ln.Addr().String(), "err", err)
		}
		return nil
	})
	group.Go(func() error {
		defer stop()
		return do(ctx)
	})
	return group.Wait()
}

// seed goes on serving for as long as the flags say, or until ctx ends, which it returns
// the cause of.
func (f *swarmFlags) seed(ctx context.Context, c *shardcast.Client, logger *slog.Logger) error {
	if f.seedFor == 0 {
		return nil
	}
	logger.Info("seeding", "for", time.Duration(f.seedFor))
	defer func() { logger.Info("seeded", "given", c.Given()) }()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Duration(f.seedFor)):
		return nil
	}
}
