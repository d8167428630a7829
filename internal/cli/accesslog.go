package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/pflag"
)

// AccessLogFlag adds --access-log to flags and returns what opens the log once they are
// read. It gives nil where there is to be none. What is opened is to be closed.
func AccessLogFlag(flags *pflag.FlagSet) func(ctx context.Context, logger *slog.Logger) (AccessLog, error) {
	name := flags.String("access-log", "", "`FILE` to append a line to for each answer, in the Combined Log Format with the seconds that it took; - is stdout; SIGHUP has it opened again (default none)")
	return func(ctx context.Context, logger *slog.Logger) (AccessLog, error) {
		switch *name {
		case "":
			return AccessLog{}, nil
		case "-":
			return AccessLog{Writer: os.Stdout}, nil
		default:
			return openAccessLog(ctx, *name, logger)
		}
	}
}

// AccessLog is where an access log goes to.
type AccessLog struct {
	io.Writer // nil for none

	file *logFile // or nil
}

// Close closes the file, if it is one.
func (l AccessLog) Close() error {
	if l.file == nil {
		return nil
	}
	return l.file.close()
}

// logFile is a file that lines are appended to, and that is opened again at every
// SIGHUP: who has renamed it gets a new one.
type logFile struct {
	name string
	stop func() // waits for the end of what waits for signals

	mu   sync.Mutex // guards file
	file *os.File
}

func openAccessLog(ctx context.Context, name string, logger *slog.Logger) (AccessLog, error) {
	l := &logFile{name: name}
	if err := l.open(); err != nil {
		return AccessLog{}, err
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
			}
			if err := l.open(); err != nil {
				logger.Error("access log not opened again", "err", err)
			} else {
				logger.Info("access log opened again", "file", name)
			}
		}
	})
	l.stop = func() {
		signal.Stop(hangups)
		cancel()
		waiting.Wait()
	}
	return AccessLog{Writer: l, file: l}, nil
}

// open opens the file in place of what was open.
func (l *logFile) open() error {
	f, err := os.OpenFile(l.name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("access log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.file
	l.file = f
	if before != nil {
		return before.Close()
	}
	return nil
}

// Write appends a line.
func (l *logFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return 0, os.ErrClosed
	}
	return l.file.Write(line)
}

func (l *logFile) close() error {
	l.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.file.Close()
	l.file = nil
	return err
}
