//go:build linux

package main

import (
	"cmp"
	"math"
	"slices"
)

// A Metric is something that is measured of each run. Its value is its name in JSON.
type Metric string

// The metrics. MB are 1,000,000 bytes, MiB 1,048,576.
const (
	Wall    Metric = "seconds"
	CPU     Metric = "cpu_seconds" // of what is measured, with all that it starts
	Rate    Metric = "mb_per_second"
	CPURate Metric = "mb_per_cpu_second"
	Peak    Metric = "peak_mib"          // resident, of the largest process
	Fair    Metric = "slowest_to_median" // of readers that read at the same time
)

// metrics are all, in the order in which a table has them.
func metrics() []Metric { return []Metric{Wall, CPU, Rate, CPURate, Peak, Fair} }

// moreIsBetter reports whether a higher value is a better one.
func (m Metric) moreIsBetter() bool { return m == Rate || m == CPURate || m == Fair }

// cost is how many times more a costs than what it is compared with. 1.2 is a fifth
// slower, or a fifth more for each byte.
func (m Metric) cost(a, other float64) float64 {
	if m.moreIsBetter() {
		return other / a
	}
	return a / other
}

// A Sample is what one run has come to.
type Sample map[Metric]float64

// add sets the metrics that follow from others for a run that moved so many bytes.
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

// A Role is what a row is to the others of its table.
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

// A Table is what is compared with one another.
type Table struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Key   Metric `json:"key"` // what it is about
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

// best is the best of those that do the same work as ours, or nil.
func (t *Table) best() *Row {
	var best *Row
	for _, r := range t.Rows {
		if r.Role == Other && (best == nil || t.ratio(r, best) < 1) {
			best = r
		}
	}
	return best
}

// ratio is what r costs at the median, in multiples of what other does. It is 0 if
// one of them is missing.
func (t *Table) ratio(r, other *Row) float64 {
	if r == nil || other == nil || len(r.Samples[t.Key]) == 0 || len(other.Samples[t.Key]) == 0 {
		return 0
	}
	return t.Key.cost(spreadOf(r.Samples[t.Key]).median, spreadOf(other.Samples[t.Key]).median)
}

// A spread is the median of values with the least and the greatest.
type spread struct{ median, least, greatest float64 }

// spreadOf is the spread of values, of which there is at least one. The median of an
// even number of them is the mean of the two in the middle.
func spreadOf(values []float64) spread {
	values = slices.SortedFunc(slices.Values(values), cmp.Compare)
	n := len(values)
	return spread{(values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1]}
}

// worseBy is by what share of it the median became worse, and 0 if that may be noise:
// if it is no more than most, or if the ranges overlap.
func worseBy(m Metric, before, now []float64, most float64) float64 {
	if len(before) == 0 || len(now) == 0 {
		return 0
	}
	a, b := spreadOf(before), spreadOf(now)
	apart := b.least > a.greatest
	if m.moreIsBetter() {
		apart = b.greatest < a.least
	}
	by := m.cost(b.median, a.median) - 1
	if !apart || by <= most || math.IsNaN(by) {
		return 0
	}
	return by
}
