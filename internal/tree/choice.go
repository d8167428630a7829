package tree

import (
	"fmt"
	"path"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// choice is which files of a directory are a tree's, by patterns.
//
// A pattern is as in .gitignore: one without a slash matches a name at any depth, one with a
// slash at its beginning or inside the path from the tree's directory; one with a slash at
// its end matches directories alone; * and ? match within an element, ** any number of
// elements. A directory that matches stands for all in it.
type choice struct{ include, exclude []string }

// CheckPatterns returns an error if opts has a pattern that is none.
func (o Options) CheckPatterns() error {
	_, err := newChoice(o)
	return err
}

func newChoice(opts Options) (choice, error) {
	c := choice{opts.Include, opts.Exclude}
	for _, patterns := range [][]string{c.include, c.exclude} {
		for _, pattern := range patterns {
			if strings.Trim(pattern, "/") == "" || !doublestar.ValidatePattern(pattern) {
				return choice{}, fmt.Errorf("bad pattern %q", pattern)
			}
		}
	}
	return c, nil
}

// emptyDirectories reports whether empty directories are taken.
func (c choice) emptyDirectories() bool { return len(c.include) == 0 }

// leavesOut reports whether the file or directory name is left out, and all in it.
func (c choice) leavesOut(name string, directory bool) bool {
	return IsArriving(path.Base(name)) || anyMatch(c.exclude, name, directory)
}

// takes reports whether the file name, which is not left out, is taken.
func (c choice) takes(name string) bool {
	if len(c.include) == 0 || anyMatch(c.include, name, false) {
		return true
	}
	for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
		if anyMatch(c.include, parent, true) {
			return true
		}
	}
	return false
}

// anyMatch reports whether one of patterns matches name.
func anyMatch(patterns []string, name string, directory bool) bool {
	for _, pattern := range patterns {
		only := strings.HasSuffix(pattern, "/")
		pattern = strings.TrimSuffix(pattern, "/")
		if only && !directory {
			continue
		}
		subject := name
		if !strings.Contains(pattern, "/") {
			subject = path.Base(name)
		}
		if doublestar.MatchUnvalidated(strings.TrimPrefix(pattern, "/"), subject) {
			return true
		}
	}
	return false
}
