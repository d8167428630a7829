package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/vbauerster/cupwriter"
)

const (
	// defaultWidth in columns is that of help which no terminal shows, and maxWidth the
	// greatest: longer lines are hard to read.
	defaultWidth = 80
	maxWidth     = 120

	// textColumn is where the texts of flags begin.
	textColumn = 30

	// space keeps two words on one line.
	space = "\u00a0"
)

// exits are the exit codes of all commands.
var exits = []struct{ code, meaning string }{
	{"0", "done"},
	{"1", "failed"},
	{"2", "wrong usage"},
	{"3", "no such version"},
	{"4", "integrity failure"},
	{"5", "no server reachable"},
	{"6", "not trusted"},
	{"7", "release expired"},
	{"130 or 143", "interrupted by SIGINT or SIGTERM (servers end with 0)"},
}

// usage writes the usage of cmd: its flags under their headings, in lines that fit the
// terminal.
func usage(cmd *cobra.Command) error {
	var b strings.Builder
	columns := width()
	b.WriteString("Usage:\n")
	if cmd.Runnable() {
		fmt.Fprintf(&b, "  %s\n", cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s COMMAND\n", cmd.CommandPath())
	}
	if cmd.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				writeRow(&b, sub.Name(), sub.Short, textColumn/2, columns)
			}
		}
	}
	for _, group := range groups(cmd) {
		fmt.Fprintf(&b, "\n%s:\n", group.heading)
		for _, flag := range group.flags {
			d := describe(flag)
			text := d.usage
			if d.env != "" {
				text += " (env" + space + d.env + ")"
			}
			if d.initial != "" {
				text += " (default" + space + strings.Replace(d.initial, " ", space, 1) + ")"
			}
			writeRow(&b, d.name, text, textColumn, columns)
		}
	}
	codes := make([]string, len(exits))
	for i, exit := range exits {
		codes[i] = exit.code + " " + exit.meaning
	}
	text := wrap("Exit codes: "+strings.Join(codes, ", ")+".", columns)
	fmt.Fprintf(&b, "\n%s\n", strings.Join(text, "\n"))
	_, err := io.WriteString(cmd.OutOrStderr(), b.String())
	return err
}

// group is a heading with the flags under it.
type group struct {
	heading string
	flags   []*pflag.Flag
}

// groups returns the flags of cmd under their headings, those that commands below it have,
// too, first.
func groups(cmd *cobra.Command) []group {
	under := make(map[string][]*pflag.Flag)
	seen := make(map[string]bool)
	for _, flags := range []*pflag.FlagSet{cmd.InheritedFlags(), cmd.PersistentFlags(), cmd.Flags()} {
		flags.VisitAll(func(flag *pflag.Flag) {
			if !flag.Hidden && !seen[flag.Name] {
				seen[flag.Name] = true
				heading := annotation(flag, headingAnnotation)
				under[heading] = append(under[heading], flag)
			}
		})
	}
	var all []group
	for _, heading := range headings {
		if flags := under[heading]; flags != nil {
			if heading == "" {
				heading = "Flags"
			}
			all = append(all, group{heading, flags})
		}
	}
	return all
}

// description is a flag in words.
type description struct {
	name, usage, env, note string

	// initial is the value without the flag, and words is true where the usage describes it.
	initial string
	words   bool
}

func describe(flag *pflag.Flag) description {
	value, usage := pflag.UnquoteUsage(flag)
	d := description{
		name: "--" + flag.Name, usage: usage,
		env: variable(flag), note: annotation(flag, noteAnnotation),
	}
	if flag.Shorthand != "" {
		d.name = "-" + flag.Shorthand + ", " + d.name
	}
	if value != "" {
		d.name += " " + value
	}
	if before, after, found := strings.Cut(usage, " (default "); found {
		d.usage, d.initial, d.words = before, strings.TrimSuffix(after, ")"), true
	} else if flag.DefValue != "0" && flag.DefValue != "false" && flag.DefValue != "[]" {
		d.initial = flag.DefValue
	}
	return d
}

// writeRow writes name, and text from column on, in lines of width columns.
func writeRow(b *strings.Builder, name, text string, column, width int) {
	line := "  " + name
	if width < 2*column {
		column = column / 3
	}
	for _, part := range wrap(text, max(width-column, 1)) {
		if len(line) > column-2 && line[len(line)-1] != ' ' {
			b.WriteString(line + "\n")
			line = ""
		}
		fmt.Fprintf(b, "%-*s%s\n", column, line, part)
		line = ""
	}
}

// wrap breaks text into lines of at most width columns, longer words apart.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Split(text, " ") {
		word = strings.ReplaceAll(word, space, " ")
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > width:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// width is the number of columns for the help.
func width() int {
	columns, _, err := cupwriter.New(os.Stdout, false).GetTermSize()
	if err != nil || columns <= 0 {
		return defaultWidth
	}
	return min(columns, maxWidth)
}
