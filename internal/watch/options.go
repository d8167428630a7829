package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// Options describe the files that [Run] broadcasts, or directories.
type Options struct {
	// Dir is the directory in which they appear.
	Dir string

	// Trees has each directory in Dir broadcast as one version, and no files. Tree says what of
	// them; links are followed only with Tree.LinksBelow.
	Trees bool
	Tree  tree.Options

	// Glob is the pattern of their names, that of [path.Match]; for files with a slash, of their
	// names in the directories of Dir. Names that begin with a dot never match.
	Glob string

	// Marker is the name of a file that must be beside a file, or in a directory, before that is
	// broadcast. Empty is for none.
	Marker string

	// Labels are those of each version, see [shard.CheckLabel], and DeltaBases is as in [origin.Options].
	Labels     map[string]string
	DeltaBases int

	// Lineage is the place of each version in its run. It has no numbers, but may say where to read them.
	Lineage origin.Lineage

	// Settle is how long a file, or all in a directory, must stay unchanged to count as complete.
	Settle time.Duration

	// Logger receives the log. Nil discards it.
	Logger *slog.Logger

	unreported bool // for tests: as if the system reported no changes
}

// Check returns an error if [Run] cannot follow w into the data directory data, which need not exist.
func (w Options) Check(data string) error {
	if _, err := path.Match(w.Glob, ""); err != nil || w.Glob == "" {
		return fmt.Errorf("Glob: %q, want a pattern such as '*.safetensors'", w.Glob)
	}
	if strings.Contains(w.Glob, "**") {
		return fmt.Errorf("Glob: %q, ** for directories of any depth is not supported; "+
			"want a name, or a directory's and a name, such as '*/*.safetensors'", w.Glob)
	}
	if w.Trees && strings.Contains(w.Glob, "/") {
		return fmt.Errorf("Glob: %q, want the names of directories, without a slash, where directories are published",
			w.Glob)
	}
	parts := strings.Split(w.Glob, "/")
	for _, part := range parts {
		if part == "" || strings.HasPrefix(part, ".") || len(parts) > 2 {
			return fmt.Errorf("Glob: %q, want a name, or a directory's and a name, neither of which begins with a dot",
				w.Glob)
		}
	}
	if w.Marker != filepath.Base(w.Marker) && w.Marker != "" {
		return fmt.Errorf("Marker: %q, want a name without a directory", w.Marker)
	}
	if w.Settle <= 0 {
		return fmt.Errorf("Settle: %s, want more than nothing", w.Settle)
	}
	if err := shard.CheckLabels(w.Labels); err != nil {
		return fmt.Errorf("Labels: %w", err)
	}
	if err := w.checkTree(); err != nil {
		return err
	}
	for dir := absolute(w.Dir); ; dir = filepath.Dir(dir) {
		if same(dir, absolute(data)) {
			return fmt.Errorf("Dir: %s is in the data directory %s, whose files would be published again", w.Dir, data)
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return w.checkDir()
}

// checkTree returns an error if w.Tree contradicts itself, or links may lead anywhere.
func (w Options) checkTree() error {
	if err := w.Lineage.Check(w.Labels); err != nil {
		return err
	}
	chosen := w.Tree.Include != nil || w.Tree.Exclude != nil
	switch {
	case !w.Trees && w.Lineage.From != "":
		return errors.New("Lineage: it is read from directories, and files are published; want Depth tree")
	case !w.Trees && (chosen || w.Tree.FollowLinks || w.Tree.LinksBelow != ""):
		return errors.New("Depth: patterns and links are those of directories, and files are published; want tree")
	case w.Tree.FollowLinks != (w.Tree.LinksBelow != ""):
		return errors.New("LinksBelow: links are followed only together with the directory below which " +
			"all have to lead; want both or none")
	}
	if err := w.Tree.CheckPatterns(); err != nil {
		return fmt.Errorf("Include, Exclude: %w", err)
	}
	if w.Tree.LinksBelow == "" {
		return nil
	}
	if info, err := os.Stat(w.Tree.LinksBelow); err != nil {
		return fmt.Errorf("LinksBelow: %w", err)
	} else if !info.IsDir() {
		return fmt.Errorf("LinksBelow: %s is not a directory", w.Tree.LinksBelow)
	}
	return nil
}

// checkDir returns an error if w.Dir is no directory that can be read: nothing would ever
// appear there, and a typing mistake would go unnoticed.
func (w Options) checkDir() error {
	info, err := os.Stat(w.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("Dir: %s does not exist; make it before the start", w.Dir)
	case err == nil && !info.IsDir():
		return fmt.Errorf("Dir: %s is not a directory", w.Dir)
	case err == nil:
		_, err = os.ReadDir(w.Dir)
	}
	if err != nil {
		return fmt.Errorf("Dir: %s cannot be read: %w", w.Dir, err)
	}
	return nil
}

// absolute returns the path name from the root on, without links as far as it exists.
func absolute(name string) string {
	if full, err := filepath.Abs(name); err == nil {
		name = full
	}
	if full, err := filepath.EvalSymlinks(name); err == nil {
		name = full
	}
	return name
}

// same reports whether a and b are one directory.
func same(a, b string) bool {
	if a == b {
		return true
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}
