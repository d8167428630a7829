//go:build pages

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// addPages adds to root the command pages, which writes what there is to install with
// it. It is for make, and only in builds with the tag pages: users have no need of what
// it brings along.
func addPages(root *cobra.Command) {
	root.AddCommand(&cobra.Command{
		Use:    "pages DIR",
		Short:  "Write man pages and completions below DIR/share",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(cmd *cobra.Command, args []string) error { return writePages(cmd.Root(), args[0]) },
	})
}

// writePages writes them to where Debian and others have them below a prefix.
func writePages(root *cobra.Command, prefix string) error {
	share := filepath.Join(prefix, "share")
	for name, write := range map[string]func(io.Writer) error{
		"bash-completion/completions/" + root.Name():               func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh/site-functions/_" + root.Name():                       root.GenZshCompletion,
		"fish/vendor_completions.d/" + root.Name() + ".fish":       func(w io.Writer) error { return root.GenFishCompletion(w, true) },
		"doc/shardcast/completions/" + root.Name() + ".powershell": root.GenPowerShellCompletionWithDesc,
	} {
		if err := writePage(filepath.Join(share, filepath.FromSlash(name)), write); err != nil {
			return err
		}
	}
	return writeManual(root, filepath.Join(share, "man", "man1"))
}

// writeManual writes a page for cmd and for each command below it that is ours.
func writeManual(cmd *cobra.Command, dir string) error {
	for _, sub := range cmd.Commands() {
		if name := sub.Name(); sub.Hidden || name == "help" || name == "completion" {
			continue
		}
		if err := writeManual(sub, dir); err != nil {
			return err
		}
	}
	cmd.DisableAutoGenTag = true // it has the date
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	return writePage(filepath.Join(dir, name+".1"), func(w io.Writer) error {
		// The date is that of SOURCE_DATE_EPOCH.
		return doc.GenMan(cmd, &doc.GenManHeader{Section: "1", Source: "shardcast", Manual: "shardcast"}, w)
	})
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
