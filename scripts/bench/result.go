//go:build linux

package main

import (
	"math"
	"slices"

	"github.com/shardcast/shardcast/scripts/internal/spread"
)

// A Metric is one of the figures of each run. Its value is its name in JSON.
type Metric string

// The metrics. MB are 1,000,000 bytes, MiB 1,048,576.
const (
	Wall    Metric = "seconds"
	CPU     Metric = "cpu_seconds" // of the program, with all that it starts
	Rate    Metric = "mb_per_second"
	CPURate Metric = "mb_per_cpu_second"
	Peak    Metric = "peak_mib"          // resident, of the largest process
	Fair    Metric = "slowest_to_median" // of readers that read at the same time
	Smaller Metric = "times_smaller"     // than the version a delta is
	Wire    Metric = "sent_mb"           // by the server; with headers where followers count it
	OfBound Metric = "of_the_bound"      // the size of a delta by the entropy of the change
	Waits   Metric = "waits_per_gb"      // of threads for the kernel, for each GB that arrives
)

// metrics are all, in the order in which a table has them.
func metrics() []Metric {
	return []Metric{Wall, CPU, Rate, CPURate, Peak, Fair, Wire, Smaller, OfBound, Waits}
}

// moreIsBetter reports whether a higher value is a better one.
func (m Metric) moreIsBetter() bool {
	return m == Rate || m == CPURate || m == Fair || m == Smaller
}

// cost is that of a as a multiple of the other's. 1.2 is a fifth slower, or a fifth more
// for each byte.
func (m Metric) cost(a, other float64) float64 {
	if m.moreIsBetter() {
		return other / a
	}
	return a / other
}

// A Sample has the figures of one run.
type Sample map[Metric]float64

// add sets the metrics that follow from others for a run that moved these bytes.
func (s Sample) add(bytes int64) Sample {
	mb := float64(bytes) / 1e6
	if s[Wall] > 0 {
		s[Rate] = mb / s[Wall]
	}
	if s[CPU] > 0 {
		s[CPURate] = mb / s[CPU]
	}
	return s
}

// A Role is that of a row among the others of its table.
type Role string

// The roles.
const (
	Ours  Role = "ours"
	Other Role = "other" // does the same work as ours
	Part  Role = "part"  // does a part of it, so that it is a limit rather than an alternative
)

// A Row is one tool, with a value of each metric for each round.
type Row struct {
	Tool    string               `json:"tool"`
	Role    Role                 `json:"role"`
	Samples map[Metric][]float64 `json:"samples"`
}

// add adds a round.
func (r *Row) add(s Sample) {
	for m, v := range s {
		r.Samples[m] = append(r.Samples[m], v)
	}
}

// A Table has rows to compare with one another.
type Table struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Key   Metric `json:"key"` // the one to compare
	Limit string `json:"limit,omitempty"`
	Rows  []*Row `json:"rows"`
}

// row is the one of a tool, or nil.
func (t *Table) row(tool string) *Row {
	i := slices.IndexFunc(t.Rows, func(r *Row) bool { return r.Tool == tool })
	if i < 0 {
		return nil
	}
	return t.Rows[i]
}

// best is the best row that does the same work as ours, or nil.
func (t *Table) best() *Row {
	var best *Row
	for _, r := range t.Rows {
		if r.Role == Other && (best == nil || t.ratio(r, best) < 1) {
			best = r
		}
	}
	return best
}

// ratio is the cost of r at the median, as a multiple of the other's. It is 0 if one of
// them is missing.
func (t *Table) ratio(r, other *Row) float64 {
	if r == nil || other == nil || len(r.Samples[t.Key]) == 0 || len(other.Samples[t.Key]) == 0 {
		return 0
	}
	return t.Key.cost(spread.Of(r.Samples[t.Key]).Median, spread.Of(other.Samples[t.Key]).Median)
}

// worseBy is the share of it by which the median became worse, and 0 if that may be
// noise: if it is no more than most, or if the ranges overlap.
func worseBy(m Metric, before, now []float64, most float64) float64 {
	if len(before) == 0 || len(now) == 0 {
		return 0
	}
	a, b := spread.Of(before), spread.Of(now)
	by := m.cost(b.Median, a.Median) - 1
	if a.Overlaps(b) || by <= most || math.IsNaN(by) {
		return 0
	}
	return by
}
