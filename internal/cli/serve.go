package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
)

// A Server is an origin or a middle.
type Server interface {
	Listen() (net.Listener, error)
	Serve(ctx context.Context, ln net.Listener) error
	Reload()
}

// Endure makes this process one that neither the end of its terminal (SIGHUP) nor the end of
// a reader of its output (SIGPIPE) ends. The commands that it starts are as usual, since
// signals that are caught, unlike ignored ones, have their usual effect there.
func Endure() {
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGPIPE} {
		if !signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

// BecomeServer makes this process, which runs command, endure, see [Endure]. It returns an
// error if systemd hands it a socket (sd_listen_fds(3)), as units of earlier
// releases had it, because that socket would hold the server's port.
func BecomeServer(command string) error {
	Endure()
	if os.Getenv("LISTEN_FDS") == "" || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil
	}
	unit := command + ".socket"
	if name, _, _ := strings.Cut(os.Getenv("LISTEN_FDNAMES"), ":"); strings.HasSuffix(name, ".socket") {
		unit = name
	}
	return fmt.Errorf("systemd hands over a socket, and %s listens by itself: run systemctl disable --now %s", command,
		unit)
}

// Serve listens and has server serve until ctx ends. Meanwhile it reports to the service
// manager, where there is one (sd_notify(3)): READY=1 when the server listens, WATCHDOG=1
// twice in the time that a watchdog allows, and STOPPING=1 when ctx ends. These reports
// depend on nothing that the server does, so one that waits for its upstreams lives on.
// SIGHUP has the server reload. Ready says when the server accepts connections; it may be nil.
func Serve(ctx context.Context, server Server, ready *Ready, logger *slog.Logger) error {
	ln, err := server.Listen()
	if err != nil {
		return err
	}
	ln = ready.Listener(ln, logger)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(ctx, ln) })
	group.Go(func() error {
		report(ctx, ln.Addr(), logger)
		return nil
	})
	group.Go(func() error {
		reload(ctx, server)
		return nil
	})
	return group.Wait()
}

// reload has server reload at each SIGHUP until ctx ends.
func reload(ctx context.Context, server Server) {
	if signal.Ignored(syscall.SIGHUP) {
		return // as nohup has it
	}
	received := make(chan os.Signal, 1)
	signal.Notify(received, syscall.SIGHUP)
	defer signal.Stop(received)
	for {
		select {
		case <-ctx.Done():
			return
		case <-received:
			server.Reload()
		}
	}
}

// report reports to the service manager until ctx ends.
func report(ctx context.Context, addr net.Addr, logger *slog.Logger) {
	sent, err := daemon.SdNotify(false, daemon.SdNotifyReady+"\nSTATUS=Serving at "+addr.String())
	if err != nil {
		logger.Warn("service manager not reached", "err", err)
	}
	if !sent {
		return
	}
	defer func() { _, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) }()
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		logger.Warn("service manager has no watchdog", "err", err)
	}
	var ticks <-chan time.Time
	if watchdog > 0 {
		ticker := time.NewTicker(watchdog / 2)
		defer ticker.Stop()
		ticks = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
		}
	}
}
