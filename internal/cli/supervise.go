package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

const (
	// readyPause is between two questions whether the server answers yet.
	readyPause = 20 * time.Millisecond

	// answerTime is how long a server may take to answer, before it is asked again.
	answerTime = 10 * time.Second
)

// Supervise tells the service manager that started this process (sd_notify(3)) when the
// server at addr answers for the first time, then, if that has a watchdog, each time
// that it does, twice as often as is needed, and, when ctx ends, that it is stopping. It
// returns then, and at once if there is no service manager.
func Supervise(ctx context.Context, addr net.Addr, logger *slog.Logger) {
	if told, err := daemon.SdNotify(false, "STATUS=Starting"); err != nil || !told {
		if err != nil {
			logger.Warn("service manager not told", "err", err)
		}
		return
	}
	defer func() { _, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) }()
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		logger.Warn("service manager has no watchdog", "err", err)
	}
	pause := readyPause
	ready := false
	for {
		err := answers(ctx, local(addr))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			logger.Debug("server does not answer", "err", err)
		case !ready:
			ready = true
			_, _ = daemon.SdNotify(false, daemon.SdNotifyReady+"\nSTATUS=Serving at "+addr.String())
			if watchdog == 0 {
				<-ctx.Done()
				return
			}
			pause = watchdog / 2
		default:
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// local is where a server that listens at addr is reached from here.
func local(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("localhost", fmt.Sprint(tcp.Port))
	}
	return addr.String()
}

// answers asks the HTTP server at addr for something that costs it nothing. It returns
// nil if there is any answer.
func answers(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(conn, 100)).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "HTTP/1.") {
		err = fmt.Errorf("%q is no answer", line)
	}
	return err
}
