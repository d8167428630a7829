//go:build pages

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// addPages adds the hidden commands pages, which writes man pages and completions, and
// reference, which writes the reference of flags. They are for make, in builds with the tag
// pages alone, because users have no need of their dependencies.
func addPages(root *cobra.Command) {
	root.AddCommand(&cobra.Command{
		Use:    "pages DIR",
		Short:  "Write man pages and completions below DIR/share",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(cmd *cobra.Command, args []string) error { return writePages(cmd.Root(), args[0]) },
	}, &cobra.Command{
		Use:    "reference FILE",
		Short:  "Write the flags into their region of FILE",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(cmd *cobra.Command, args []string) error { return writeReference(cmd.Root(), args[0]) },
	})
}

// writePages writes them to the places of Debian and others below a prefix.
func writePages(root *cobra.Command, prefix string) error {
	share := filepath.Join(prefix, "share")
	name := root.Name()
	bash := func(w io.Writer) error { return root.GenBashCompletionV2(w, true) }
	fish := func(w io.Writer) error { return root.GenFishCompletion(w, true) }
	for page, write := range map[string]func(io.Writer) error{
		"bash-completion/completions/" + name:               bash,
		"zsh/site-functions/_" + name:                       root.GenZshCompletion,
		"fish/vendor_completions.d/" + name + ".fish":       fish,
		"doc/shardcast/completions/" + name + ".powershell": root.GenPowerShellCompletionWithDesc,
	} {
		if err := writePage(filepath.Join(share, filepath.FromSlash(page)), write); err != nil {
			return err
		}
	}
	for _, sub := range root.Commands() {
		sub.Hidden = sub.Hidden || !ours(sub) // has no page
	}
	return writeManual(root, filepath.Join(share, "man", "man1"))
}

// writeManual writes a page for cmd and for each of our commands below it.
func writeManual(cmd *cobra.Command, dir string) error {
	for _, sub := range cmd.Commands() {
		if ours(sub) {
			if err := writeManual(sub, dir); err != nil {
				return err
			}
		}
	}
	cmd.DisableAutoGenTag = true // it has the date
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	return writePage(filepath.Join(dir, name+".1"), func(w io.Writer) error { return writeManualPage(w, cmd) })
}

// writeManualPage writes the page of package doc for cmd, with options and further sections
// of our own.
func writeManualPage(w io.Writer, cmd *cobra.Command) error {
	// The date is that of SOURCE_DATE_EPOCH.
	var page strings.Builder
	header := doc.GenManHeader{Section: "1", Source: "shardcast", Manual: "shardcast"}
	if err := doc.GenMan(cmd, &header, &page); err != nil {
		return err
	}
	section := regexp.MustCompile(`(?m)^\.SH .*\n`)
	text := page.String()
	starts := append(section.FindAllStringIndex(text, -1), []int{len(text), len(text)})
	if _, err := io.WriteString(w, text[:starts[0][0]]); err != nil {
		return err
	}
	var b strings.Builder
	for i, start := range starts[:len(starts)-1] {
		heading := strings.TrimSpace(text[start[0]:start[1]])
		switch {
		case heading == ".SH OPTIONS":
			writeOptions(&b, cmd)
			continue
		case strings.HasPrefix(heading, ".SH OPTIONS INHERITED"):
			continue // which stand among the others
		case heading == ".SH SEE ALSO":
			writeSections(&b, cmd)
		}
		b.WriteString(text[start[0]:starts[i+1][0]])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeOptions writes the flags of cmd under their headings.
func writeOptions(b *strings.Builder, cmd *cobra.Command) {
	b.WriteString(".SH OPTIONS\n")
	for _, group := range groups(cmd) {
		fmt.Fprintf(b, ".SS %s\n", roff(group.heading))
		for _, flag := range group.flags {
			d := describe(flag)
			text := d.meaning()
			if d.initial != "" {
				text += " Default: " + d.initial + "."
			}
			writeTerm(b, term{d.name, text})
		}
	}
}

// writeSections writes the sections of the manual of cmd that package doc does not have.
func writeSections(b *strings.Builder, cmd *cobra.Command) {
	var codes, environment []term
	for _, exit := range exits {
		codes = append(codes, term{exit.code, sentence(exit.meaning)})
	}
	for _, group := range groups(cmd) {
		for _, flag := range group.flags {
			if d := describe(flag); d.env != "" {
				environment = append(environment, term{
					d.env,
					"Sets --" + flag.Name + " where the command line does not.",
				})
			}
		}
	}
	for _, section := range []struct {
		heading string
		terms   []term
	}{
		{"EXIT STATUS", codes},
		{Environment, append(environment, termsOf(cmd, Environment)...)},
		{Files, termsOf(cmd, Files)},
	} {
		if section.terms != nil {
			fmt.Fprintf(b, ".SH %s\n", section.heading)
		}
		for _, t := range section.terms {
			writeTerm(b, t)
		}
	}
}

// term is one term of a section with its text.
type term struct{ name, text string }

// termsOf returns the terms of a section of cmd.
func termsOf(cmd *cobra.Command, section string) []term {
	var terms []term
	for line := range strings.Lines(cmd.Annotations[section]) {
		name, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		terms = append(terms, term{name, text})
	}
	return terms
}

func writeTerm(b *strings.Builder, t term) {
	fmt.Fprintf(b, ".TP\n\\fB%s\\fP\n%s\n", roff(t.name), roff(t.text))
}

// roff is text for a manual.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

func writePage(path string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// writeReference replaces the region of root in the file path.
func writeReference(root *cobra.Command, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begin, end := marks(root.Name())
	before, rest, found := strings.Cut(string(text), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return fmt.Errorf("%s: there are no lines %s and %s", path, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return os.WriteFile(path, []byte(before+region(root)+after), 0o644)
}
