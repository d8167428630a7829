// Package cli has the shared parts of the three commands: how they run and end, their
// flags, environment variables, help, manual and log. It sets the library's options and
// refuses to know how a role works.
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

// interrupted is the cause of a context's end by a signal.
type interrupted struct{ signal syscall.Signal }

func (e interrupted) Error() string { return "interrupted by " + e.signal.String() }

// Run runs root with the arguments of the process until it is done or SIGINT or
// SIGTERM ends its context; a second signal ends the process at once. It prints the
// error, if any, and returns the exit code.
func Run(root *cobra.Command) int {
	ctx, stop := signals(context.Background())
	defer stop()
	stderr := newStderr()
	defer stderr.Close()
	root.SetErr(stderr)
	prepare(root)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitDone
	}
	fmt.Fprintf(stderr, "%s: %v\n", root.Name(), err)
	var by interrupted
	if errors.As(context.Cause(ctx), &by) {
		return exitSignal + int(by.signal)
	}
	code := exitCode(err)
	if code == ExitUsage {
		fmt.Fprintf(stderr, "Run '%s --help' for its flags.\n", cmd.CommandPath())
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

// signals returns a context that ends with the first signal, for an interrupted.
func signals(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	received := make(chan os.Signal, 1)
	signal.Notify(received, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case s := <-received:
			signal.Stop(received) // the next signal has its usual effect
			number, _ := s.(syscall.Signal)
			cancel(interrupted{number})
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// prepare gives root the shared behaviour, flags and commands.
func prepare(root *cobra.Command) {
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.AddCommand(versionCommand())
	pprof := root.PersistentFlags().String("pprof", "",
		"`ADDRESS` for profiles, a port of loopback or host:port (default none)")
	Note(root.PersistentFlags(), "pprof", "They are for go tool pprof. 0 is any free port of loopback.")
	Under(root.PersistentFlags(), Expert)
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
	root.SetFlagErrorFunc(flagError)
	root.SetUsageFunc(usage)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	addPages(root)
	adopt(root)
	complete(root)
}

// adopt gives cmd and the commands below it a help flag like the others, flags in the order
// of their definition, and wrong arguments as errors of [Usage].
func adopt(cmd *cobra.Command) {
	cmd.InitDefaultHelpFlag()
	cmd.Flags().Lookup("help").Usage = "print this help"
	annotate(cmd.Flags(), "help", headingAnnotation, Show)
	cmd.Flags().SortFlags, cmd.PersistentFlags().SortFlags = false, false
	if args := cmd.Args; args != nil {
		cmd.Args = func(cmd *cobra.Command, given []string) error {
			if err := args(cmd, given); err != nil {
				return argumentsError(cmd, given, err)
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		adopt(sub)
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this build",
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
