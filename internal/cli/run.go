// Package cli has the shared parts of the three commands: how they run and end, their
// flags, environment variables, help, manual and log. It sets the library's options and
// refuses to know how a role works.
package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
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
	ExitNotTrusted  = 6
	ExitExpired     = 7
	ExitLineage     = 8
	exitSignal      = 128 // and the signal's number
)

// interrupted is the cause of a context's end by a signal, or by the end of stdin as if by one.
type interrupted struct {
	signal syscall.Signal
	stdin  bool
}

func (e interrupted) Error() string {
	switch {
	case e.stdin:
		return "interrupted by the end of stdin"
	case e.signal == syscall.SIGTERM:
		return "interrupted by SIGTERM"
	default:
		return "interrupted by SIGINT"
	}
}

// sentence says that cmd was interrupted, and how to go on; and err, where it is another.
func (e interrupted) sentence(cmd *cobra.Command, err error) string {
	text := e.Error()
	if !errors.Is(err, e) && !errors.Is(err, context.Canceled) {
		text = err.Error() + "; " + text
	}
	if hint := cmd.Annotations[resumeAnnotation]; hint != "" {
		text += "; " + hint
	}
	return text
}

const resumeAnnotation = "shardcast resume"

// Resume has the error of cmd, when a signal has interrupted it, say how to go on.
func Resume(cmd *cobra.Command, hint string) {
	if cmd.Annotations == nil {
		cmd.Annotations = make(map[string]string)
	}
	cmd.Annotations[resumeAnnotation] = hint
}

// Run runs root with the arguments of the process until it is done or SIGINT, SIGTERM or with
// --exit-with-stdin the end of stdin ends its context; a second signal ends the process at
// once. It prints the error, if any, and returns the exit code.
func Run(root *cobra.Command) int {
	ctx, end := signals(context.Background())
	defer end(nil)
	stderr := newStderr()
	defer func() { _ = stderr.Close() }() // which never fails
	root.SetErr(stderr)
	prepare(root, end)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitDone
	}
	var by interrupted
	if errors.As(context.Cause(ctx), &by) {
		code := exitSignal + int(by.signal)
		printEnd(cmd, by.sentence(cmd, err), code)
		return code
	}
	text := err.Error()
	if errors.Is(err, shardcast.ErrOptions) {
		text = optionError(cmd, err)
	}
	code := exitCode(err)
	printEnd(cmd, text, code)
	return code
}

// printEnd prints on stderr, in one line, why cmd ends with code.
func printEnd(cmd *cobra.Command, why string, code int) {
	stderr := cmd.ErrOrStderr()
	why = strings.ReplaceAll(why, "\n", "; ") // between errors that were joined
	if LogsJSON(cmd) {
		logger := slog.New(slog.NewJSONHandler(stderr, nil))
		logger.Error("ended", "command", cmd.CommandPath(), "err", why, "code", code)
		return
	}
	fmt.Fprintf(stderr, "%s: %s\n", cmd.Root().Name(), why)
	if code == ExitUsage {
		fmt.Fprintf(stderr, "Run '%s --help' for its flags.\n", cmd.CommandPath())
	}
}

func exitCode(err error) int {
	switch {
	case errors.As(err, new(usageError)), errors.Is(err, shardcast.ErrOptions):
		return ExitUsage
	case errors.Is(err, shardcast.ErrNotTrusted):
		return ExitNotTrusted
	case errors.Is(err, shardcast.ErrExpired):
		return ExitExpired
	case errors.Is(err, shardcast.ErrNoVersion):
		return ExitNoVersion
	case errors.Is(err, shardcast.ErrIntegrity):
		return ExitIntegrity
	case errors.Is(err, shardcast.ErrLineage):
		return ExitLineage
	case errors.Is(err, shardcast.ErrUnreachable):
		return ExitUnreachable
	default:
		return ExitFailed
	}
}

// signals returns a context that ends with the first signal, for an interrupted, or by end.
func signals(parent context.Context) (_ context.Context, end context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	received := make(chan os.Signal, 1)
	signal.Notify(received, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case s := <-received:
			signal.Stop(received) // the next signal has its usual effect, from before anybody sees that this one came
			number, _ := s.(syscall.Signal)
			cancel(interrupted{signal: number})
		case <-ctx.Done():
			signal.Stop(received)
		}
	}()
	return ctx, cancel
}

// prepare gives root the shared behaviour, flags and commands. The end of stdin, where a flag
// wants that, calls end.
func prepare(root *cobra.Command, end context.CancelCauseFunc) {
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.AddCommand(versionCommand())
	pprof := root.PersistentFlags().String("pprof", "",
		"`ADDRESS` for profiles, a port of loopback or host:port (default none)")
	Note(root.PersistentFlags(), "pprof", "They are for go tool pprof. 0 is any free port of loopback.")
	withStdin := stdinFlag(root.PersistentFlags())
	Under(root.PersistentFlags(), Expert)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := applyEnv(cmd.Flags()); err != nil {
			return err
		}
		if *withStdin {
			go awaitStdin(cmd.InOrStdin(), end)
		}
		if *pprof == "" {
			return nil
		}
		url, err := profile.Serve(cmd.Context(), *pprof)
		if err != nil {
			return fmt.Errorf("--pprof: %w", err)
		}
		if LogsJSON(cmd) {
			slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil)).Info("profiles", "url", url)
			return nil
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "profiles on %s\n", url)
		return nil
	}
	root.SetFlagErrorFunc(flagError)
	root.SetUsageFunc(usage)
	root.InitDefaultHelpCmd()
	knowTopics(root)
	root.InitDefaultCompletionCmd()
	addPages(root)
	adopt(root)
	complete(root)
}

// knowTopics has the help command of root refuse what is no command.
func knowTopics(root *cobra.Command) {
	help, _, _ := root.Find([]string{"help"})
	help.Args = func(_ *cobra.Command, topic []string) error {
		if of, rest, _ := root.Find(topic); len(rest) > 0 {
			return argumentsError(of, rest, fmt.Errorf("unknown command %q for %q", rest[0], of.CommandPath()))
		}
		return nil
	}
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
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s %s/%s\n",
				cmd.Root().Name(), buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// buildVersion is the version of this build.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "(unknown)"
}
