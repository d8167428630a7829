package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Annotations of flags.
const (
	envAnnotation     = "shardcast environment variable"
	headingAnnotation = "shardcast heading"
	noteAnnotation    = "shardcast note"
	valuesAnnotation  = "shardcast values"
)

// Headings of flags, in the order of the help.
const (
	Publish = "What to publish"
	Follow  = "What to follow"
	Fetch   = "What to fetch"
	Use     = "How to use it"
	Show    = "How to show it"
	Network = "Network"
	Swarm   = "Swarm"
	Expert  = "Expert"
)

var headings = []string{Publish, Follow, Fetch, Use, Show, Network, Swarm, Expert, ""}

// Under puts those flags that have no heading yet under one.
func Under(flags *pflag.FlagSet, heading string) {
	flags.VisitAll(func(flag *pflag.Flag) {
		if annotation(flag, headingAnnotation) == "" {
			annotate(flags, flag.Name, headingAnnotation, heading)
		}
	})
}

// Env has an environment variable set the flag name where the command line does not.
func Env(flags *pflag.FlagSet, name, variable string) {
	annotate(flags, name, envAnnotation, variable)
}

// Note adds sentences about the flag name to the manual and the reference, for which the
// help has no room.
func Note(flags *pflag.FlagSet, name, note string) { annotate(flags, name, noteAnnotation, note) }

// Suggest has the shell complete the value of the flag name to one of values.
func Suggest(flags *pflag.FlagSet, name string, values ...string) {
	annotate(flags, name, valuesAnnotation, values...)
}

func annotate(flags *pflag.FlagSet, name, annotation string, values ...string) {
	if err := flags.SetAnnotation(name, annotation, values); err != nil {
		panic(err) // there is no such flag
	}
}

// annotation returns the first value of an annotation, or an empty one.
func annotation(flag *pflag.Flag, name string) string {
	if values := flag.Annotations[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// applyEnv sets the flags that the command line does not have from the environment.
func applyEnv(flags *pflag.FlagSet) error {
	var err error
	flags.VisitAll(func(flag *pflag.Flag) {
		variable := annotation(flag, envAnnotation)
		if flag.Changed || variable == "" {
			return
		}
		value := os.Getenv(variable)
		if value == "" {
			return
		}
		if bad := flags.Set(flag.Name, value); bad != nil {
			err = errors.Join(err, Usage(fmt.Errorf("environment variable %s: %w", variable, bad)))
		}
	})
	return err
}

// complete has the shell complete the flags and arguments of cmd and of the commands below
// it: files and directories where the help says FILE or DIRECTORY, and suggested values.
func complete(cmd *cobra.Command) {
	for _, flags := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
		flags.VisitAll(func(flag *pflag.Flag) {
			switch value, _ := pflag.UnquoteUsage(flag); value {
			case "FILE", "COMMAND": // as the shell does
			case "DIRECTORY":
				_ = cobra.MarkFlagDirname(flags, flag.Name) // the flag exists
			default:
				values := cobra.FixedCompletions(flag.Annotations[valuesAnnotation], cobra.ShellCompDirectiveNoFileComp)
				_ = cmd.RegisterFlagCompletionFunc(flag.Name, values) // fails for a second registration alone
			}
		})
	}
	if cmd.ValidArgsFunction == nil && cmd.Use == cmd.Name() {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	for _, sub := range cmd.Commands() {
		complete(sub)
	}
}
