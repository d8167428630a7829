package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"
)

// AccessLogFlag adds --access-log to flags and returns a function that opens the log once
// they are parsed. It returns nil without the flag. The file stays open for as long as the
// process lives; whatever rotates it has to copy and truncate it.
func AccessLogFlag(flags *pflag.FlagSet) func() (io.Writer, error) {
	name := flags.String("access-log", "", "`FILE` to append a line to for each answer; - is stdout (default none)")
	Note(flags, "access-log", "The format is the Combined Log Format, followed by the duration in seconds.")
	return func() (io.Writer, error) {
		switch *name {
		case "":
			return nil, nil //nolint:nilnil // no access log, which is fine
		case "-":
			return os.Stdout, nil
		}
		f, err := os.OpenFile(*name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
		if err != nil {
			return nil, fmt.Errorf("access log: %w", err)
		}
		return f, nil
	}
}
