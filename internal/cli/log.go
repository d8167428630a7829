package cli

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/shardcast/shardcast/internal/logqueue"
)

// newStderr returns the queue to stderr that the log, the display of progress and the error
// of a command share.
func newStderr() *logqueue.Queue {
	return logqueue.New(os.Stderr, func(lost int64, err error) {
		if err == nil { // else there is no reader to tell
			logger := slog.Default() // as LogFlag sets it
			logger.Warn("log lines dropped", "lines", lost)
		}
	})
}

// Stderr returns the queue to stderr of cmd, which [Run] runs. A writer to it waits for
// no reader.
func Stderr(cmd *cobra.Command) *logqueue.Queue {
	queue, _ := cmd.ErrOrStderr().(*logqueue.Queue) // as Run sets it
	return queue
}

// LogFlag adds --log-level and --log-format to flags and returns a function that makes a
// logger to w, once they are parsed. It also has the standard logger, to which package
// net/http writes, log there, at debug level.
func LogFlag(flags *pflag.FlagSet) func(w io.Writer) *slog.Logger {
	l := level(slog.LevelInfo)
	flags.Var(&l, "log-level", "least level to log on stderr: DEBUG, INFO, WARNING, ERROR or CRITICAL")
	Suggest(flags, "log-level", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
	format := textFormat
	flags.Var(&format, logFormat, "form of the log on stderr: text, or json, one object per line")
	Suggest(flags, logFormat, string(textFormat), string(jsonFormat))
	Note(flags, logFormat, "With json all on stderr is such objects, also an error at the start, and --progress auto "+
		"draws no bar.")
	return func(w io.Writer) *slog.Logger {
		opts := &slog.HandlerOptions{Level: slog.Level(l)}
		var handler slog.Handler = slog.NewTextHandler(w, opts)
		if format == jsonFormat {
			handler = slog.NewJSONHandler(w, opts)
		}
		logger := slog.New(handler)
		slog.SetLogLoggerLevel(slog.LevelDebug)
		slog.SetDefault(logger)
		return logger
	}
}

// logFormat is the name of the flag.
const logFormat = "log-format"

// format is a flag's form of the log.
type format string

const (
	textFormat format = "text"
	jsonFormat format = "json"
)

// Set reads the flag.
func (f *format) Set(text string) error {
	if known := format(text); known == textFormat || known == jsonFormat {
		*f = known
		return nil
	}
	return errors.New("want text or json")
}

// String returns the form.
func (f *format) String() string { return string(*f) }

// Type stands for the value in the help.
func (f *format) Type() string { return "FORMAT" }

// LogsJSON reports whether the log of cmd is to be JSON, also where an error was met before
// that flag.
func LogsJSON(cmd *cobra.Command) bool {
	flag := cmd.Flags().Lookup(logFormat)
	switch {
	case flag == nil: // a command without a log
		flag = &pflag.Flag{Name: logFormat}
	case flag.Changed:
		return flag.Value.String() == string(jsonFormat)
	}
	for i, arg := range os.Args {
		if value, ok := strings.CutPrefix(arg, "--"+logFormat+"="); ok {
			return value == string(jsonFormat)
		}
		if arg == "--"+logFormat && i+1 < len(os.Args) {
			return os.Args[i+1] == string(jsonFormat)
		}
	}
	return os.Getenv(variable(flag)) == string(jsonFormat)
}

// ProgressFlag adds --progress to flags, which sets mode.
func ProgressFlag(flags *pflag.FlagSet, mode pflag.Value) {
	flags.Var(mode, "progress", "progress on stderr: auto, bar, plain, json or none")
	Suggest(flags, "progress", "auto", "bar", "plain", "json", "none")
	Note(flags, "progress",
		"auto is bar on a terminal, and otherwise plain, which is log lines. json is one object per line.")
}

// level is a flag's log level, by the names of Python.
type level slog.Level

var levels = map[string]slog.Level{
	"DEBUG":    slog.LevelDebug,
	"INFO":     slog.LevelInfo,
	"WARNING":  slog.LevelWarn,
	"ERROR":    slog.LevelError,
	"CRITICAL": slog.LevelError + 4,
}

// Set reads the flag.
func (l *level) Set(text string) error {
	known, ok := levels[strings.ToUpper(text)]
	if !ok {
		return errors.New("want DEBUG, INFO, WARNING, ERROR or CRITICAL")
	}
	*l = level(known)
	return nil
}

// String returns the name.
func (l *level) String() string {
	for name, known := range levels {
		if known == slog.Level(*l) {
			return name
		}
	}
	return slog.Level(*l).String()
}

// Type stands for the value in the help.
func (l *level) Type() string { return "LEVEL" }
