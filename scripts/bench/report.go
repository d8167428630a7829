//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shardcast/shardcast/scripts/internal/machine"
	"github.com/shardcast/shardcast/scripts/internal/report"
	"github.com/shardcast/shardcast/scripts/internal/spread"
)

// A Report has the results of one run.
type Report struct {
	Date      string          `json:"date"`
	Took      string          `json:"took"`
	Rounds    int             `json:"rounds"`
	Arguments []string        `json:"arguments,omitempty"`
	Machine   machine.Machine `json:"machine"`
	Tables    []*Table        `json:"tables"`
	LeftOut   []string        `json:"left_out,omitempty"`
}

// table is the one with a name, or nil.
func (r *Report) table(name string) *Table {
	i := slices.IndexFunc(r.Tables, func(t *Table) bool { return t.Name == name })
	if i < 0 {
		return nil
	}
	return r.Tables[i]
}

// readReport reads one in JSON, or the newest in a directory.
func readReport(name string) (*Report, error) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		all, err := filepath.Glob(filepath.Join(name, "*.json"))
		if err != nil {
			return nil, err
		}
		if len(all) == 0 {
			return nil, fmt.Errorf("there is no report in %s to compare with", name)
		}
		name = slices.Max(all) // they are called by their dates
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r := new(Report)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// write writes the report into a directory, called by its date.
func (r *Report) write(dir string) error {
	return report.Write(dir, r.Date, r)
}

// title is the name of a metric at the head of a column.
func (m Metric) title() string {
	switch m {
	case Wall:
		return "seconds"
	case CPU:
		return "CPU seconds"
	case Rate:
		return "MB/s"
	case CPURate:
		return "MB per CPU second"
	case Peak:
		return "peak MiB"
	case Fair:
		return "slowest / median reader"
	case Wire:
		return "MB sent"
	case Smaller:
		return "times smaller"
	case OfBound:
		return "of the bound"
	case Waits:
		return "waits a GB"
	}
	return string(m)
}

// digits is the number of digits of a metric after the point.
func (m Metric) digits(values []float64) int {
	if m == Wall && len(values) > 0 && spread.Of(values).Median < 1 {
		return 3
	}
	return map[Metric]int{Wall: 2, CPU: 2, Peak: 1, Fair: 2, Wire: 1, Smaller: 1, OfBound: 2}[m]
}

// cell is the median of values with the range, if there are several.
func cell(m Metric, values []float64) string { return spread.Cell(values, m.digits(values)) }

// Markdown is the report for people.
func (r *Report) Markdown() string {
	w := new(strings.Builder)
	fmt.Fprintf(w, "# Benchmark of %s\n\n%s\n", r.Date, r.Machine)
	fmt.Fprintf(w, "Loopback, random bytes, counted rounds: %d, in turn, after one that does not count; "+
		"%s in all: medians (least to greatest). ", r.Rounds, r.Took)
	fmt.Fprint(w, "Ratios count; times are those of this machine on this day. They are of costs, "+
		"seconds or CPU seconds per byte: more than 1.00 is worse. CPU seconds are those of the named program, "+
		"without the server that it fetches from; the peak is that of its largest process, "+
		"and a server's since its start. All bytes that shardcast writes are on the disk when its clock stops; "+
		"those of others only with sync in the name.\n")
	if len(r.Arguments) > 0 {
		fmt.Fprintf(w, "\nArguments: `%s`\n", strings.Join(r.Arguments, " "))
	}
	for _, s := range r.LeftOut {
		fmt.Fprintf(w, "\nLeft out: %s.\n", s)
	}
	for _, t := range r.Tables {
		t.markdown(w)
	}
	fmt.Fprint(w, r.besideBase())
	r.goals(w)
	r.bars(w)
	return w.String()
}

// besideBase compares the rows of ours with those of the base commands.
func (r *Report) besideBase() string {
	var b report.Base
	for _, t := range r.Tables {
		for _, base := range t.Rows {
			tool, ok := strings.CutPrefix(base.Tool, baseOf)
			now := t.row(tool)
			if !ok || now == nil {
				continue
			}
			for _, m := range compared(t) {
				was, is := base.Samples[m], now.Samples[m]
				b.Add(fmt.Sprintf("%s: %s, %s", t.Name, tool, m.title()), was, is, m.digits(is), m.moreIsBetter())
			}
		}
	}
	return b.String()
}

// markdown is one table.
func (t *Table) markdown(w *strings.Builder) {
	best, limit := t.best(), t.row(t.Limit)
	var columns []Metric
	for _, m := range metrics() {
		if slices.ContainsFunc(t.Rows, func(r *Row) bool { return len(r.Samples[m]) > 0 }) &&
			(m != CPURate || t.Key == CPURate) {
			columns = append(columns, m)
		}
	}
	fmt.Fprintf(w, "\n## %s: %s\n\n|", t.Name, t.Title)
	heads := []string{""}
	for _, m := range columns {
		heads = append(heads, m.title())
	}
	if best != nil {
		heads = append(heads, "of the best other")
	}
	if limit != nil {
		heads = append(heads, "of "+t.Limit)
	}
	for _, h := range heads {
		fmt.Fprintf(w, " %s |", h)
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---:|", len(heads)-1))
	for _, r := range t.Rows {
		fmt.Fprintf(w, "| %s |", r.label())
		for _, m := range columns {
			fmt.Fprintf(w, " %s |", cell(m, r.Samples[m]))
		}
		for _, other := range []*Row{best, limit} {
			if other != nil {
				fmt.Fprintf(w, " %.2f |", t.ratio(r, other))
			}
		}
		fmt.Fprintln(w)
	}
}

// label is the name of a row, marked by its role.
func (r *Row) label() string {
	name := strings.ReplaceAll(r.Tool, "|", `\|`)
	switch r.Role {
	case Ours:
		return "**" + name + "**"
	case Part:
		return name + " (does less)"
	case Other:
	}
	return name
}

// A goal is the most that a ratio may be.
type goal struct {
	table, ours, other string // other is empty for the best that does the same work
	most               float64
}

// goals are the project's.
func goals() []goal {
	return []goal{
		{"publish", broadcast, openssl, 1.5},
		{"publish", broadcast, "", 1},
		{"fetch", fromOwn, "", 0.85},
		{"fetch", fromOwn, limit, 1.3},
		{"serve-10", "shardcast-origin", "", 1.15},
		{"serve-100", "shardcast-origin", "", 1.15},
		{"relay", relayed, openssl, 2.6},
		{"relay", relayed, cached, 1.4},
	}
}

// goals lists those that were measured, and whether they are met.
func (r *Report) goals(w *strings.Builder) {
	heading := "\n## Goals\n\n"
	for _, g := range goals() {
		t := r.table(g.table)
		if t == nil {
			continue
		}
		other := t.row(g.other)
		if g.other == "" {
			other = t.best()
		}
		ratio := t.ratio(t.row(g.ours), other)
		if ratio == 0 {
			continue
		}
		verdict := "met"
		if ratio > g.most {
			verdict = "**missed**"
		}
		fmt.Fprintf(w, "%s- %s: %s takes %.2f of %s, at most %.2f: %s\n",
			heading, g.table, g.ours, ratio, other.Tool, g.most, verdict)
		heading = ""
	}
}
