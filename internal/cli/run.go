// Package cli is what the three commands share: how they run and end, their
// environment variables, the values of their flags and their log. It knows
// nothing of what the commands do.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/profile"
)

// Exit codes, the same for all commands.
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitNoVersion   = 3
	ExitIntegrity   = 4
	ExitUnreachable = 5
	exitSignal      = 128 // and the signal's number
)

// exitCodes stands at the end of every help text.
const exitCodes = `
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such version, 4 integrity
failure, 5 no server reachable, 130 or 143 interrupted by SIGINT or SIGTERM
(servers end with 0 then).
`

// usageError is a mistake on the command line or in the environment.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usage makes err an error in how the command was called, with exit code 2.
func Usage(err error) error { return usageError{err} }

// interrupted is why the context ends when a signal comes.
type interrupted struct{ signal syscall.Signal }

func (e interrupted) Error() string { return "interrupted by " + e.signal.String() }

// Run runs root with the process's arguments until it is done or a SIGINT or
// SIGTERM ends its context; a second one ends the process at once. It prints the
// error, if any, and returns the exit code.
func Run(root *cobra.Command) int {
	ctx, stop := signals(context.Background())
	defer stop()
	prepare(root)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitDone
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", root.Name(), err)
	var by interrupted
	if errors.As(context.Cause(ctx), &by) {
		return exitSignal + int(by.signal)
	}
	code := exitCode(err)
	if code == ExitUsage {
		fmt.Fprintf(os.Stderr, "Run '%s --help' for how to use it.\n", root.Name())
	}
	return code
}

func exitCode(err error) int {
	switch {
	case errors.As(err, new(usageError)), errors.Is(err, shardcast.ErrOptions):
		return ExitUsage
	case errors.Is(err, shardcast.ErrNoVersion):
		return ExitNoVersion
	case errors.Is(err, shardcast.ErrIntegrity):
		return ExitIntegrity
	case errors.Is(err, shardcast.ErrUnreachable):
		return ExitUnreachable
	default:
		return ExitFailed
	}
}

// signals returns a context that the first signal ends, by an interrupted.
func signals(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	received := make(chan os.Signal, 1)
	signal.Notify(received, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case s := <-received:
			signal.Stop(received) // the next one has its usual effect
			number, _ := s.(syscall.Signal)
			cancel(interrupted{number})
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// prepare makes root behave as all our commands do.
func prepare(root *cobra.Command) {
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.AddCommand(versionCommand())
	pprof := root.PersistentFlags().String("pprof", "", "`ADDRESS` to serve profiles of this process on, for go tool pprof: a port, which is one of loopback, or host:port for whoever reaches that; 0 is any port that is free (default none)")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := applyEnv(cmd.Flags()); err != nil {
			return err
		}
		if *pprof == "" {
			return nil
		}
		url, err := profile.Serve(cmd.Context(), *pprof)
		if err == nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "profiles on %s\n", url)
		}
		return err
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usage(err) })
	root.SetUsageTemplate(root.UsageTemplate() + exitCodes)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	addPages(root)
	markArgs(root)
}

// markArgs makes wrong arguments of cmd and those below it wrong usage.
func markArgs(cmd *cobra.Command) {
	if args := cmd.Args; args != nil {
		cmd.Args = func(cmd *cobra.Command, given []string) error {
			if err := args(cmd, given); err != nil {
				return Usage(err)
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		markArgs(sub)
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print which build this is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			version := "(unknown)"
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s %s/%s\n",
				cmd.Root().Name(), version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// envAnnotation is where a flag keeps the name of its environment variable.
const envAnnotation = "environment variable"

// Env lets the flag name be set by an environment variable too, which counts
// only where the flag is not given, and says so in its help.
func Env(flags *pflag.FlagSet, name, variable string) {
	flag := flags.Lookup(name)
	flag.Usage += " (env " + variable + ")"
	flag.Annotations = map[string][]string{envAnnotation: {variable}}
}

// applyEnv sets the flags that were not given from the environment.
func applyEnv(flags *pflag.FlagSet) error {
	var err error
	flags.VisitAll(func(flag *pflag.Flag) {
		variable := flag.Annotations[envAnnotation]
		if flag.Changed || len(variable) == 0 {
			return
		}
		value := os.Getenv(variable[0])
		if value == "" {
			return
		}
		if bad := flags.Set(flag.Name, value); bad != nil {
			err = errors.Join(err, Usage(fmt.Errorf("environment variable %s: %w", variable[0], bad)))
		}
	})
	return err
}
