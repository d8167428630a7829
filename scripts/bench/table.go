//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/flags"
	"github.com/shardcast/shardcast/scripts/internal/process"
)

// A tool is the program of a row.
type tool struct {
	name  string
	role  Role
	needs []string // programs that it runs

	// run runs it once in a directory of its own, which goes afterwards.
	run func(ctx context.Context, dir string) (Sample, error)
}

// table measures tools in turn, round by round, and adds them to the report without
// other tools that fail.
func (b *bench) table(ctx context.Context, t *Table, tools []tool) error {
	tools = slices.DeleteFunc(tools, func(x tool) bool { return !b.only.MatchString(x.name) || !b.installed(t, x) })
	for _, x := range tools {
		t.Rows = append(t.Rows, &Row{Tool: x.name, Role: x.role, Samples: make(map[Metric][]float64)})
	}
	for round := range b.flags.rounds + 1 {
		slices.Reverse(tools) // so that none is always the first
		for _, x := range tools {
			row := t.row(x.name)
			if row == nil {
				continue
			}
			s, err := b.once(ctx, x)
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case err != nil && x.role == Ours:
				return fmt.Errorf("%s: %w", x.name, err)
			case err != nil:
				b.leaveOut("%s: %s, because it failed: %s", t.Name, x.name, err)
				t.Rows = slices.DeleteFunc(t.Rows, func(r *Row) bool { return r == row })
				continue
			}
			fmt.Fprintf(os.Stderr, "%s, round %d of %d: %s: %.3f s, %.3f CPU s\n",
				t.Name, round, b.flags.rounds, x.name, s[Wall], s[CPU])
			if round > 0 { // the first fills caches for the others
				row.add(s)
			}
		}
	}
	if len(t.Rows) > 0 {
		b.report.Tables = append(b.report.Tables, t)
	}
	return nil
}

// once runs a tool once.
func (b *bench) once(ctx context.Context, x tool) (s Sample, err error) {
	dir, err := os.MkdirTemp(b.dir, "run-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	syscall.Sync()
	return x.run(ctx, dir)
}

// installed reports whether all programs of a tool are there, and notes a missing one.
func (b *bench) installed(t *Table, x tool) bool {
	for _, name := range x.needs {
		if _, err := process.Program(name); err != nil {
			b.leaveOut("%s: %s, because %s is not installed", t.Name, x.name, name)
			return false
		}
	}
	return true
}

// leaveOut notes the lack of a row.
func (b *bench) leaveOut(format string, args ...any) {
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	fmt.Fprintln(os.Stderr, "left out:", text)
	text, _, _ = strings.Cut(text, "\n") // without its log
	b.report.LeftOut = append(b.report.LeftOut, text)
}

// makeFile makes a file of random bytes.
func (b *bench) makeFile(ctx context.Context, name string, size flags.Bytes) (file.File, error) {
	return file.Random(ctx, filepath.Join(b.dir, name), size, b.flags.seed)
}

// shell is a tool that is a script for sh, which runs in the directory of the run. Its
// output must contain expected.
func (b *bench) shell(
	name string, role Role, size flags.Bytes, env []string, expected, script string, needs ...string,
) tool {
	return tool{name, role, needs, func(ctx context.Context, dir string) (Sample, error) {
		s, out, err := measured(ctx, int64(size), dir, env, "sh", "-ec", script)
		if err == nil && !strings.Contains(out, expected) {
			err = fmt.Errorf("it printed %q, and not %s", out, expected)
		}
		return s, err
	}}
}
