package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shardcast/shardcast/scripts/internal/flags"
	"github.com/shardcast/shardcast/scripts/internal/machine"
	"github.com/shardcast/shardcast/scripts/internal/process"
	"github.com/shardcast/shardcast/scripts/internal/report"
	"github.com/shardcast/shardcast/scripts/internal/spread"
)

// A Report has the results of one run.
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
	path        path
	size, shard flags.Bytes
}

// A Result has the samples of a system in a scenario.
type Result struct {
	System    string   `json:"system"`
	Scenario  string   `json:"scenario"`
	Clients   int      `json:"clients"`
	Receivers int      `json:"receivers"` // nodes that want the file
	Bound     float64  `json:"bound"`     // seconds
	Samples   []Sample `json:"samples"`   // one a round
	Failed    int      `json:"failed,omitempty"`
	Reason    string   `json:"reason,omitempty"` // of the last failure
}

// A Sample is one trial, in seconds.
type Sample struct {
	All     float64 `json:"all"`     // until all nodes held the verified file
	Bound   float64 `json:"bound"`   // of the wires, after the start of a late node
	Others  float64 `json:"others"`  // bound without the odd node / median of the others
	Sent    float64 `json:"sent"`    // by the origin, in files
	Median  float64 `json:"median"`  // of the nodes' times
	Slowest float64 `json:"slowest"` // of them
	Idle    float64 `json:"idle"`    // share of the processors' time
	Nodes   int     `json:"nodes"`   // with a time
	Copies  float64 `json:"copies,omitempty"`
	Peak    float64 `json:"peak_mib,omitempty"` // resident memory of the largest middle

	// Sooner is how many times sooner than the first version the second came by a delta, and Deltas how many
	// of these the origin sent.
	Sooner float64 `json:"sooner,omitempty"`
	Deltas float64 `json:"deltas_sent,omitempty"`

	// Received has the bytes that each node received beside an attacker, in files, ascending.
	Received []float64 `json:"received,omitempty"`
}

// ratio is the bound divided by the time, and 0 without a bound.
func (s Sample) ratio() float64 {
	if s.All == 0 {
		return 0
	}
	return s.Bound / s.All
}

// newReport is one without results.
func (l *lab) newReport(ctx context.Context, leftOut []string) *Report {
	nginx, _ := process.Program("nginx") // one that is missing is left out
	origin := filepath.Join(l.bin, "shardcast-origin")
	return &Report{
		Date: time.Now().Format("2006-01-02T150405"), Rounds: l.rounds, Arguments: os.Args[1:],
		Machine: machine.This(ctx, l.dir, []string{origin, "version"}, []string{nginx, "-v"},
			[]string{"aria2c", "--version"}, []string{"ip", "-V"}),
		Congestion: l.congestion, LeftOut: leftOut,
		Rate: int64(l.rate), Size: int64(l.size), ShardSize: int64(l.shardSize),
		rate: l.rate, path: l.path, size: l.size, shard: l.shardSize,
	}
}

// result is the one of a system in a scenario, made if it is not there.
func (r *Report) result(system string, v variant) *Result {
	for _, x := range r.Results {
		if x.System == system && x.Scenario == v.scenario.name && x.Clients == v.clients {
			return x
		}
	}
	x := &Result{
		System: system, Scenario: v.scenario.name, Clients: v.clients, Receivers: v.plan.receivers(),
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

// values are a figure of all samples that have it.
func (r *Result) values(figure func(Sample) float64) (values []float64) {
	for _, s := range r.Samples {
		if v := figure(s); !math.IsNaN(v) {
			values = append(values, v)
		}
	}
	return values
}

// of is the median of a figure of all samples, or nothing.
func (r *Result) of(figure func(Sample) float64, digits int) string {
	values := r.values(figure)
	if len(values) == 0 {
		return ""
	}
	return fmt.Sprintf("%.*f", digits, spread.Of(values).Median)
}

// cell is the median of a figure of all samples with the range, or nothing.
func (r *Result) cell(figure func(Sample) float64) string {
	values := r.values(figure)
	return spread.Cell(values, digits(values))
}

// digits is the number of digits that show values, after the point.
func digits(values []float64) int {
	if len(values) > 0 && spread.Of(values).Median < 0.1 {
		return 3
	}
	return 2
}

// orNone is a figure, and NaN for the 0 of a sample without it.
func orNone(figure float64) float64 {
	if figure == 0 {
		return math.NaN()
	}
	return figure
}

func all(s Sample) float64     { return s.All }
func bound(s Sample) float64   { return orNone(s.Bound) }
func others(s Sample) float64  { return orNone(s.Others) }
func sent(s Sample) float64    { return orNone(s.Sent) }
func typical(s Sample) float64 { return s.Median }
func slowest(s Sample) float64 { return s.Slowest }
func copies(s Sample) float64  { return orNone(s.Copies) }
func peak(s Sample) float64    { return orNone(s.Peak) }
func sooner(s Sample) float64  { return orNone(s.Sooner) }
func deltas(s Sample) float64  { return orNone(s.Deltas) }

// fewest is the part of the file of the node that received the fewest bytes.
func fewest(s Sample) float64 {
	if len(s.Received) == 0 {
		return math.NaN()
	}
	return slices.Min(s.Received)
}

// ofBound is how near a sample came to its bound.
func ofBound(s Sample) float64 { return orNone(s.ratio()) }

// idle is the idle share of the processors' time in percent.
func idle(s Sample) float64 {
	if s.Bound == 0 {
		return math.NaN()
	}
	return 100 * s.Idle
}

// Markdown is the report for people.
func (r *Report) Markdown() string {
	w := new(strings.Builder)
	fmt.Fprintf(w, "# Lab of %s\n\n%s\n", r.Date, r.Machine)
	links := fmt.Sprintf("tc tbf, burst %d bytes, latency %s, no delay", burst(r.rate), latency)
	if r.path.isLong() {
		links = fmt.Sprintf("TAP devices joined by the lab, latency %s, round trip %s, %g %% of packets lost", latency,
			r.path.trip, 100*r.path.loss)
	}
	fmt.Fprintf(w, "A namespace for each node, each with an up- and a downlink of %s "+
		"(%s); congestion control %s. A file of %s in shards of %s; "+
		"counted rounds: %d, in turn, %s in all: medians (least to greatest).\n",
		r.rate.String(), links, r.Congestion, r.size.String(), r.shard.String(), r.Rounds, r.Took)
	fmt.Fprint(w, "\nThe clock starts when the origin is up and holds the file, and nothing else runs, "+
		"unless the scenario has another one. "+
		"Seconds until all nodes hold the file verified, beside the bound of the wires: "+
		"max(S / up of the origin, S / slowest down, N · S / sum of all up), "+
		"for N nodes that want S bytes, middles as well as clients. "+
		"Of the bound: bound / time, 1 is ideal, and 0.955 the most that packet headers leave. "+
		"Of the others' bound: the same for the median node, without the one that is slow or late. "+
		"Sent: by the origin's interface, in files. "+
		"The times of a median, slowest or late node count from its own start. "+
		"Idle: share of the processors' time; near 0 the machine was the limit, and not the wires. "+
		"Peak: resident memory of the largest middle, in MiB. "+
		"Fewest: the bytes that the node with the fewest received beside an attacker, in files. "+
		"Sooner: how many times sooner the second version was there than the first; deltas: sent by the origin.\n")
	for _, s := range r.LeftOut {
		fmt.Fprintf(w, "\nLeft out: %s.\n", s)
	}
	if len(r.Arguments) > 0 {
		fmt.Fprintf(w, "\nArguments: `%s`\n", strings.Join(r.Arguments, " "))
	}
	fmt.Fprint(w, "\n| scenario | clients | system | s to all nodes | bound, s | of the bound | of the others' bound "+
		"| sent | median node, s | slowest node, s | idle, % | peak | fewest | sooner | deltas |\n"+
		"|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, x := range r.Results {
		x.row(w)
	}
	r.legend(w)
	fmt.Fprint(w, r.besideBase())
	r.goals(w)
	return w.String()
}

// row writes a line of the table, and one for failures.
func (r *Result) row(w *strings.Builder) {
	if len(r.Samples) > 0 {
		fmt.Fprintf(w, "| %s | %d | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n",
			r.Scenario, r.Clients, r.System, r.cell(all), r.of(bound, 2), r.cell(ofBound), r.of(others, 2),
			r.of(sent, 2), r.of(typical, digits(r.values(typical))), r.of(slowest, digits(r.values(slowest))),
			r.of(idle, 0), r.of(peak, 1), r.of(fewest, 2), r.of(sooner, 1), r.of(deltas, 2))
	}
	if r.Failed > 0 {
		fmt.Fprintf(w, "| %s | %d | %s | **failed %d times**: %s | | | | | | | | | | | |\n",
			r.Scenario, r.Clients, r.System, r.Failed, strings.ReplaceAll(r.Reason, "|", `\|`))
	}
}

// legend explains the scenarios and systems.
func (r *Report) legend(w *strings.Builder) {
	fmt.Fprintln(w)
	for _, s := range scenarios() {
		if slices.ContainsFunc(r.Results, func(x *Result) bool { return x.Scenario == s.name }) {
			fmt.Fprintf(w, "- %s: %s\n", s.name, s.story)
		}
	}
	all := systems("bin")
	for _, s := range append(all, based(all, "base")...) {
		if slices.ContainsFunc(r.Results, func(x *Result) bool { return x.System == s.name }) {
			fmt.Fprintf(w, "- %s: %s\n", s.name, s.story)
		}
	}
}

// besideBase compares each system with the one that runs base commands.
func (r *Report) besideBase() string {
	var b report.Base
	for _, now := range r.Results {
		for _, base := range r.Results {
			if base.System == baseName(now.System) && base.Scenario == now.Scenario && base.Clients == now.Clients {
				row := fmt.Sprintf("%s, %d clients: %s, ", now.Scenario, now.Clients, now.System)
				b.Add(row+"s to all nodes", base.values(all), now.values(all), 3, false)
				b.Add(row+"files sent", base.values(sent), now.values(sent), 2, false)
				b.Add(row+"peak MiB", base.values(peak), now.values(peak), 1, false)
			}
		}
	}
	return b.String()
}

// missed are the goals that shardcast has missed.
func (r *Report) missed() (missed []string) {
	r.eachGoal(func(text string, kept bool) {
		if !kept {
			missed = append(missed, text)
		}
	})
	return missed
}

// goals lists the goals of the scenarios, and whether shardcast has kept them.
func (r *Report) goals(w *strings.Builder) {
	heading := "\n## Goals\n\n"
	r.eachGoal(func(text string, kept bool) {
		verdict := "met"
		if !kept {
			verdict = "**missed**"
		}
		fmt.Fprintf(w, "%s- %s: %s\n", heading, text, verdict)
		heading = ""
	})
}

// eachGoal calls f for each goal that was measured.
func (r *Report) eachGoal(f func(text string, kept bool)) {
	for _, s := range scenarios() {
		for _, x := range r.Results {
			if x.Scenario != s.name || x.System != cmp.Or(s.goalsOf, ours) {
				continue
			}
			for _, g := range s.goals {
				g.judge(s.name, x.values(g.of), f)
			}
		}
	}
}

// judge calls f with the values of a goal in a scenario, if there are any.
func (g goal) judge(scenario string, values []float64, f func(text string, kept bool)) {
	if len(values) == 0 {
		return
	}
	bound := "at most"
	if g.least {
		bound = "at least"
	}
	median := spread.Of(values).Median
	f(fmt.Sprintf("%s: %.3f %s, %s %g", scenario, median, g.figure, bound, g.bound), g.kept(median))
}

// write writes the report into a directory, called by its date.
func (r *Report) write(dir string) error {
	return report.Write(dir, "lab-"+r.Date, r)
}
