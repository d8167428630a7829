package cli

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Annotations of flags.
const (
	envAnnotation     = "shardcast environment variable"
	fromEnvAnnotation = "shardcast set by the environment"
	headingAnnotation = "shardcast heading"
	noteAnnotation    = "shardcast note"
	valuesAnnotation  = "shardcast values"
)

// Headings of flags, in the order of the help.
const (
	Publish = "What to publish"
	Follow  = "What to follow"
	Fetch   = "What to fetch"
	Trust   = "What to trust"
	Use     = "How to use it"
	Show    = "How to show it"
	Network = "Network"
	Swarm   = "Swarm"
	Sign    = "Signing"
	Expert  = "Expert"
)

var headings = []string{Publish, Follow, Fetch, Trust, Use, Show, Network, Swarm, Sign, Expert, ""}

// Under puts those flags that have no heading yet under one.
func Under(flags *pflag.FlagSet, heading string) {
	flags.VisitAll(func(flag *pflag.Flag) {
		if annotation(flag, headingAnnotation) == "" {
			annotate(flags, flag.Name, headingAnnotation, heading)
		}
	})
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
