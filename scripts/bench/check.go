//go:build linux

package main

import (
	"errors"
	"fmt"
	"slices"
)

// noise is the share by which a median may become worse, however narrow the ranges are.
const noise = 0.10

// compare prints each figure that became worse, and returns an error for them.
func compare(before, now *Report) error {
	worse, skipped := worseThan(before, now)
	fmt.Printf("\n## Compared with %s\n\n", before.Date)
	for _, s := range skipped {
		fmt.Println("- not compared: " + s)
	}
	for _, s := range worse {
		fmt.Println("- worse: " + s)
	}
	if len(worse) > 0 {
		return errors.New("something became worse by more than the noise")
	}
	fmt.Println("- nothing else became worse by more than the noise: " +
		"no median by more than 10 % with ranges that do not overlap")
	return nil
}

// worseThan returns the figures of ours that became worse by more than the noise, and
// those that it could not compare.
//
// Times of different days differ, so where there is another tool in the table ours are
// also divided by its, round by round, and are worse only if the quotient is worse too.
// Reports of different machines are compared by that quotient and memory alone.
func worseThan(before, now *Report) (worse, skipped []string) {
	same := before.Machine.CPU == now.Machine.CPU && before.Machine.Cores == now.Machine.Cores
	if !same {
		skipped = append(skipped,
			fmt.Sprintf("times of %s with those of %s, but for ratios", now.Machine.CPU, before.Machine.CPU))
	}
	for _, t := range now.Tables {
		old := before.table(t.Name)
		if old == nil || old.Title != t.Title {
			skipped = append(skipped, t.Name+": "+t.Title+", which the other run has not")
			continue
		}
		w, s := tableWorse(old, t, same)
		worse, skipped = append(worse, w...), append(skipped, s...)
	}
	for _, t := range before.Tables {
		if now.table(t.Name) == nil {
			skipped = append(skipped, t.Name+", which this run has not")
		}
	}
	return worse, skipped
}

// tableWorse is [worseThan] for one table.
func tableWorse(before, now *Table, same bool) (worse, skipped []string) {
	for _, r := range now.Rows {
		if old := before.row(r.Tool); r.Role == Ours && old != nil {
			worse = append(worse, rowWorse(before, now, old, r, same)...)
		} else if r.Role == Ours {
			skipped = append(skipped, now.Name+": "+r.Tool+", which the other run has not")
		}
	}
	for _, r := range before.Rows {
		if r.Role == Ours && now.row(r.Tool) == nil {
			skipped = append(skipped, now.Name+": "+r.Tool+", which this run has not")
		}
	}
	return worse, skipped
}

// compared are the metrics of a table to compare.
func compared(t *Table) []Metric {
	if t.Key == CPURate {
		return []Metric{CPURate, Rate, Peak, Fair, Smaller}
	}
	return []Metric{Wall, CPU, Peak, Wire}
}

// rowWorse is [worseThan] for one row.
func rowWorse(oldTable, nowTable *Table, before, now *Row, same bool) (worse []string) {
	for _, m := range compared(nowTable) {
		a, b := before.Samples[m], now.Samples[m]
		absolute := worseBy(m, a, b, noise)
		text := fmt.Sprintf("%s: %s: %s by %.0f %% (%s, was %s)",
			nowTable.Name, now.Tool, m.title(), 100*absolute, cell(m, b), cell(m, a))
		if m == Peak || m == Fair || m == Smaller || m == Wire {
			if absolute > 0 {
				worse = append(worse, text)
			}
			continue
		}
		tool := reference(oldTable, nowTable, m)
		if tool == "" {
			if same && absolute > 0 {
				worse = append(worse, text)
			}
			continue
		}
		was, is := oldTable.row(tool).Samples[m], nowTable.row(tool).Samples[m]
		relative := worseBy(m, quotients(a, was), quotients(b, is), noise)
		if relative > 0 && (!same || absolute > 0) {
			worse = append(worse, fmt.Sprintf("%s: %s: %s beside %s by %.0f %% (%s, was %s)",
				nowTable.Name, now.Tool, m.title(), tool, 100*relative, cell(m, b), cell(m, a)))
		}
	}
	return worse
}

// reference is the other tool that stands for the speed of the machine: the limit if there
// is one, or else the first that both tables have.
func reference(before, now *Table, m Metric) string {
	has := func(t *Table, tool string) bool {
		r := t.row(tool)
		return r != nil && r.Role != Ours && len(r.Samples[m]) > 0 && !slices.Contains(r.Samples[m], 0)
	}
	if has(before, now.Limit) && has(now, now.Limit) {
		return now.Limit
	}
	for _, r := range now.Rows {
		if has(before, r.Tool) && has(now, r.Tool) {
			return r.Tool
		}
	}
	return ""
}

// quotients are those of values by others, round by round.
func quotients(values, others []float64) (q []float64) {
	for i := range min(len(values), len(others)) {
		q = append(q, values[i]/others[i])
	}
	return q
}
