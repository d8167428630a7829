package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// marks are the lines round the region of a command.
func marks(command string) (begin, end string) {
	return "<!-- flags of " + command + ": begin (make reference writes this) -->\n",
		"<!-- flags of " + command + ": end -->\n"
}

// Reference returns the region of root in docs/reference.md: the flags of root and of the
// commands below it. It must come before [Run], if at all.
func Reference(root *cobra.Command) string {
	prepare(root, nil)
	return region(root)
}

func region(root *cobra.Command) string {
	begin, end := marks(root.Name())
	var b strings.Builder
	b.WriteString(begin)
	writeFlags(&b, root, nil)
	b.WriteString("\n" + end)
	return b.String()
}

// writeFlags writes the flags of cmd, but only the names of those whose rows are in known.
func writeFlags(b *strings.Builder, cmd *cobra.Command, known map[string]string) {
	fmt.Fprintf(b, "\n### %s\n", cmd.CommandPath())
	described := make(map[string]string)
	var same []string
	for _, group := range groups(cmd) {
		var rows []string
		for _, flag := range group.flags {
			row := describe(flag).row()
			described[flag.Name] = row
			if known[flag.Name] == row {
				same = append(same, "`--"+flag.Name+"`")
			} else {
				rows = append(rows, row)
			}
		}
		if rows != nil {
			fmt.Fprintf(b, "\n**%s**\n\n| flag | environment | default | meaning |\n|---|---|---|---|\n%s",
				group.heading, strings.Join(rows, ""))
		}
	}
	if same != nil {
		fmt.Fprintf(b, "\nAs with `%s`: %s.\n", cmd.Parent().CommandPath(), strings.Join(same, ", "))
	}
	for _, sub := range cmd.Commands() {
		if ours(sub) && sub.Name() != "version" {
			writeFlags(b, sub, described)
		}
	}
}

// row is a row of the reference.
func (d description) row() string {
	initial := d.initial
	if !d.words {
		initial = code(initial)
	}
	return fmt.Sprintf("| %s | %s | %s | %s |\n", code(d.name), code(d.env), initial, d.meaning())
}

// meaning is the usage of a flag with its note, in sentences.
func (d description) meaning() string {
	return strings.TrimSpace(sentence(d.usage) + " " + d.note)
}

// ours is true for a command of our own that the help lists.
func ours(cmd *cobra.Command) bool {
	return cmd.IsAvailableCommand() && cmd.Name() != "completion"
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// sentence is the clause of a flag's usage as a sentence.
func sentence(clause string) string { return strings.ToUpper(clause[:1]) + clause[1:] + "." }
