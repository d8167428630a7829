package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/shardcast/shardcast/internal/logqueue"
)

// AccessLogFlag adds --access-log to flags and returns a function that opens the log once
// they are parsed, and returns nil without the flag. No writer waits for a reader of the log;
// Close writes the last lines. The file stays open for as long as the process lives; whatever
// rotates it has to copy and truncate it.
func AccessLogFlag(flags *pflag.FlagSet) func() (io.WriteCloser, error) {
	name := flags.String("access-log", "", "`FILE` to append a line to for each answer; - is stdout (default none)")
	Note(flags, "access-log", "The format is the Combined Log Format, followed by the duration in seconds. "+
		"The server waits for no reader of the log: lines that one is too slow for are dropped and counted.")
	return func() (io.WriteCloser, error) {
		if *name == "" {
			return nil, nil //nolint:nilnil // no access log, which is fine
		}
		out, err := openLog(*name)
		if err != nil {
			return nil, fmt.Errorf("--access-log: %w", err)
		}
		return logqueue.New(out, func(lost int64, err error) {
			logger := slog.Default() // as LogFlag sets it
			if err != nil {
				logger.Error("access log failed", "file", *name, "err", err)
			} else {
				logger.Warn("access log lines dropped", "file", *name, "lines", lost)
			}
		}), nil
	}
}

// openLog opens a log to append to. It does not wait for the reader of a pipe.
func openLog(name string) (*os.File, error) {
	if name == "-" {
		return os.Stdout, nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NONBLOCK, 0o640)
	if errors.Is(err, syscall.ENXIO) {
		return nil, fmt.Errorf("%w: nothing reads this pipe; start its reader first", err)
	}
	return f, err
}
