package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/machine"
	"github.com/shardcast/shardcast/scripts/internal/report"
)

// A Report is all of one run.
type Report struct {
	Date       string          `json:"date"`
	Took       string          `json:"took"`
	Rounds     int             `json:"rounds"`
	Arguments  []string        `json:"arguments,omitempty"`
	Machine    machine.Machine `json:"machine"`
	Congestion string          `json:"congestion_control"`
	Rate       int64           `json:"rate_bits_per_second"`
	Size       int64           `json:"size"`
	ShardSize  int64           `json:"shard_size"`
	Results    []*Result       `json:"results"`
	LeftOut    []string        `json:"left_out,omitempty"`

	rate        rate
	size, shard file.Bytes
}

// A Result is what a system has done in a scenario.
type Result struct {
	System    string   `json:"system"`
	Scenario  string   `json:"scenario"`
	Clients   int      `json:"clients"`
	Receivers int      `json:"receivers"` // that are to hold the file in the end
	Bound     float64  `json:"bound"`     // seconds
	Samples   []Sample `json:"samples"`   // one a round
	Failed    int      `json:"failed,omitempty"`
	Reason    string   `json:"reason,omitempty"` // of the last failure
}

// A Sample is one trial, in seconds.
type Sample struct {
	All     float64 `json:"all"`     // until all nodes held the verified file
	Bound   float64 `json:"bound"`   // what the wires allow, after a late node had come
	Others  float64 `json:"others"`  // bound without the odd node / median of the others
	Sent    float64 `json:"sent"`    // by the origin, in files
	Median  float64 `json:"median"`  // of the nodes' times
	Slowest float64 `json:"slowest"` // of them
	Idle    float64 `json:"idle"`    // share of the processors' time
	Nodes   int     `json:"nodes"`   // whose time it is
}

// ratio is how near it came to the bound.
func (s Sample) ratio() float64 { return s.Bound / s.All }

// newReport is one without results.
func (l *lab) newReport(ctx context.Context, leftOut []string) *Report {
	return &Report{
		Date: time.Now().Format("2006-01-02T150405"), Rounds: l.rounds, Arguments: os.Args[1:],
		Machine: machine.This(ctx, l.dir, []string{l.command("origin"), "version"}, []string{program("nginx"), "-v"}, []string{"aria2c", "--version"}, []string{"ip", "-V"}), Congestion: l.congestion, LeftOut: leftOut,
		Rate: int64(l.rate), Size: int64(l.size), ShardSize: int64(l.shardSize),
		rate: l.rate, size: l.size, shard: l.shardSize,
	}
}

// result is the one of a system in a scenario, made if it is not there.
func (r *Report) result(system string, v variant) *Result {
	for _, x := range r.Results {
		if x.System == system && x.Scenario == v.name && x.Clients == v.nodes {
			return x
		}
	}
	x := &Result{
		System: system, Scenario: v.name, Clients: v.nodes, Receivers: v.plan.receivers(),
		Bound: v.plan.bound(r.size, true).Seconds(),
	}
	r.Results = append(r.Results, x)
	return x
}

// fail notes that a trial has failed.
func (r *Result) fail(err error) {
	r.Failed++
	r.Reason, _, _ = strings.Cut(err.Error(), "\n") // without its log
}

// measured reports whether there is anything to report.
func (r *Report) measured() bool { return len(r.Results) > 0 }

// of is the median of what f says of all samples.
func (r *Result) of(f func(Sample) float64) float64 {
	var values []float64
	for _, s := range r.Samples {
		values = append(values, f(s))
	}
	return median(values)
}

// cell is the median of what f says of all samples, with the range.
func (r *Result) cell(f func(Sample) float64) string {
	var values []float64
	for _, s := range r.Samples {
		values = append(values, f(s))
	}
	text := fmt.Sprintf("%.2f", median(values))
	if len(values) > 1 {
		text += fmt.Sprintf(" (%.2f to %.2f)", slices.Min(values), slices.Max(values))
	}
	return text
}

func all(s Sample) float64     { return s.All }
func bound(s Sample) float64   { return s.Bound }
func others(s Sample) float64  { return s.Others }
func sent(s Sample) float64    { return s.Sent }
func typical(s Sample) float64 { return s.Median }
func slowest(s Sample) float64 { return s.Slowest }
func idle(s Sample) float64    { return 100 * s.Idle }

// Markdown is the report for people.
func (r *Report) Markdown() string {
	w := new(strings.Builder)
	fmt.Fprintf(w, "# Lab of %s\n\n%s\n", r.Date, r.Machine)
	fmt.Fprintf(w, "A namespace for each node, each with an up- and a downlink of %s (tc tbf, burst %d bytes, latency %s, no delay); "+
		"congestion control %s. A file of %s in shards of %s; counted rounds: %d, in turn, %s in all: medians (least to greatest).\n",
		r.rate.String(), burst(r.rate), latency, r.Congestion, r.size.String(), r.shard.String(), r.Rounds, r.Took)
	fmt.Fprint(w, "\nThe clock starts when the origin is up and holds the file, and nothing else runs. Seconds until all nodes hold it verified, "+
		"beside what the wires allow: max(S / up of the origin, S / slowest down, N · S / sum of all up), for N nodes that are to hold S bytes, middles as well as clients. "+
		"Of the bound: bound / time, 1 is ideal, and 0.955 the most that packet headers leave. "+
		"Of the others' bound: the same for the median node, without the one that is slow or late. "+
		"Sent: by the origin's interface, in files. A median and slowest node's time is from its own start, so a late one's too. "+
		"Idle: share of the processors' time; near 0 the machine was the limit, and not the wires.\n")
	for _, s := range r.LeftOut {
		fmt.Fprintf(w, "\nLeft out: %s.\n", s)
	}
	if len(r.Arguments) > 0 {
		fmt.Fprintf(w, "\nArguments: `%s`\n", strings.Join(r.Arguments, " "))
	}
	fmt.Fprint(w, "\n| scenario | clients | system | s to all nodes | bound, s | of the bound | of the others' bound | sent | median node, s | slowest node, s | idle, % |\n"+
		"|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, x := range r.Results {
		x.row(w)
	}
	r.legend(w)
	return w.String()
}

// row is a line of the table, and one for failures.
func (r *Result) row(w *strings.Builder) {
	if len(r.Samples) > 0 {
		fmt.Fprintf(w, "| %s | %d | %s | %s | %.2f | %s | %.2f | %.2f | %.2f | %.2f | %.0f |\n",
			r.Scenario, r.Clients, r.System, r.cell(all), r.of(bound), r.cell(Sample.ratio),
			r.of(others), r.of(sent), r.of(typical), r.of(slowest), r.of(idle))
	}
	if r.Failed > 0 {
		fmt.Fprintf(w, "| %s | %d | %s | **failed %d times**: %s | | | | | | | |\n",
			r.Scenario, r.Clients, r.System, r.Failed, strings.ReplaceAll(r.Reason, "|", `\|`))
	}
}

// legend says what the scenarios and systems are.
func (r *Report) legend(w *strings.Builder) {
	fmt.Fprintln(w)
	for _, s := range scenarios() {
		if slices.ContainsFunc(r.Results, func(x *Result) bool { return x.Scenario == s.name }) {
			fmt.Fprintf(w, "- %s: %s\n", s.name, s.story)
		}
	}
	for _, s := range systems() {
		if slices.ContainsFunc(r.Results, func(x *Result) bool { return x.System == s.name }) {
			fmt.Fprintf(w, "- %s: %s\n", s.name, s.story)
		}
	}
}

// write writes the report into a directory, called by its date.
func (r *Report) write(dir string) error {
	return report.Write(dir, "lab-"+r.Date, r)
}
