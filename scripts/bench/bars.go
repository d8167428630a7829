//go:build linux

package main

import (
	"fmt"
	"strings"

	"github.com/shardcast/shardcast/scripts/internal/spread"
)

// A bar bounds the median of a figure of one row, or as a multiple of another row's: from below where
// more is better.
type bar struct {
	table, row, of string // of is empty for the figure itself
	metric         Metric
	bound          float64
}

// bars are those of deltas and of swarms.
func bars() []bar {
	encode1, encode2, apply1, apply2 := onCores(encoding, 1), onCores(encoding, 2),
		onCores(applying, 1), onCores(applying, 2)
	all := []bar{
		{"swarm", inSwarm, openssl, CPURate, 1.0 / 8},
		{"swarm", inSwarm, "", Waits, 60_000},
		{"delta-bf16-1", encode1, "", Smaller, 120},
		{"delta-bf16-1", encode1, "", OfBound, 1.25},
		{"delta-bf16-3", encode1, "", Smaller, 45},
		{"delta-fp8-1", encode1, "", Smaller, 50},
		{"delta-insertion", encode1, "", Smaller, 100},
		{"delta-build", encode1, xdelta, Smaller, 1},
		{"delta-bf16-1", encode1, "", CPURate, 1000},
		{"delta-bf16-1", apply1, "", CPURate, 1500},
		{"delta-bf16-1", apply2, apply1, Rate, 1.8},
	}
	for _, table := range []string{"delta-bf16-1", "delta-bf16-3", "delta-fp8-1", "delta-insertion", "delta-build"} {
		for _, row := range []string{encode2, apply2} {
			all = append(all, bar{table, row, "", Peak, 64})
		}
	}
	return all
}

// verdict is a line for the bar, or nothing if it was not measured.
func (b bar) verdict(r *Report) string {
	t := r.table(b.table)
	if t == nil {
		return ""
	}
	row, of := t.row(b.row), t.row(b.of)
	if row == nil || len(row.Samples[b.metric]) == 0 || b.of != "" && (of == nil || len(of.Samples[b.metric]) == 0) {
		return ""
	}
	value := spread.Of(row.Samples[b.metric]).Median
	name, unit := b.row, b.metric.title()
	if b.of != "" {
		value /= spread.Of(of.Samples[b.metric]).Median
		name, unit = b.row+" beside "+b.of, "as a multiple of "+unit
	}
	side, missed := "at most", value > b.bound
	if b.metric.moreIsBetter() {
		side, missed = "at least", value < b.bound
	}
	verdict := "met"
	if missed {
		verdict = "**missed**"
	}
	return fmt.Sprintf("- %s: %s: %.2f %s, %s %g: %s\n", b.table, name, value, unit, side, b.bound, verdict)
}

// bars lists those that were measured, and whether they are met.
func (r *Report) bars(w *strings.Builder) {
	heading := "\n## Bars\n\n"
	for _, b := range bars() {
		if line := b.verdict(r); line != "" {
			fmt.Fprint(w, heading, line)
			heading = ""
		}
	}
}
