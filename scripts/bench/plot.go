//go:build linux

package main

import (
	"fmt"
	"html"
	"strings"
)

// Sizes in the picture, in its units.
const (
	plotWidth = 900
	labelEnd  = 240 // where names end and bars begin
	barEnd    = 780 // where the longest bar ends
	rowHeight = 24
	barHeight = 14
)

// plotStyle is by the reader's light or dark theme. The ground is part of the picture,
// so that it can also be read where the page has a theme of its own.
const plotStyle = `<style>
text { font: 13px system-ui, sans-serif; fill: #1f1f1e }
.head { font-weight: 600 }
.soft { fill: #52514e }
.ground { fill: #fcfcfb }
.ours { fill: #2a78d6 }
.other { fill: #a3a19a }
.part { fill: none; stroke: #a3a19a; stroke-width: 1.5 }
.range { stroke: #1f1f1e; stroke-width: 1.5; fill: none }
@media (prefers-color-scheme: dark) {
	text { fill: #f2f1ee }
	.soft { fill: #c3c2b7 }
	.ground { fill: #1a1a19 }
	.ours { fill: #3987e5 }
	.other { fill: #7d7b75 }
	.part { stroke: #7d7b75 }
	.range { stroke: #f2f1ee }
}
</style>
`

// Plot is an SVG of all tables of throughput as bars, longer is better, with the range
// as a line. It is empty if there are none.
func (r *Report) Plot() string {
	w := new(strings.Builder)
	y := 30
	for _, t := range r.Tables {
		m := Rate
		if t.Key == CPURate {
			m = CPURate
		}
		if t.Key == Peak {
			continue
		}
		y = t.plot(w, m, y)
	}
	if w.Len() == 0 {
		return ""
	}
	fmt.Fprintf(w, `<text class="soft" x="%d" y="%d">%s</text>`+"\n", 20, y+4,
		html.EscapeString(fmt.Sprintf("Longer is better. Medians of %d, range as a line. Outlined: does less than the others. %s.", r.Rounds, r.Date)))
	height := y + 22
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="Throughput">`+"\n",
		plotWidth, height, plotWidth, height) + plotStyle +
		fmt.Sprintf(`<rect class="ground" width="%d" height="%d" rx="6"/>`+"\n", plotWidth, height) + w.String() + "</svg>\n"
}

// plot draws one table from y on, and returns where it ends.
func (t *Table) plot(w *strings.Builder, m Metric, y int) int {
	longest := 0.0
	for _, r := range t.Rows {
		if len(r.Samples[m]) > 0 {
			longest = max(longest, spreadOf(r.Samples[m]).greatest)
		}
	}
	if longest == 0 {
		return y
	}
	at := func(v float64) float64 { return labelEnd + v/longest*(barEnd-labelEnd) }
	fmt.Fprintf(w, `<text class="head" x="20" y="%d">%s</text>`+"\n", y, html.EscapeString(strings.Split(t.Name, "-")[0]+": "+t.Title+" ("+m.title()+")"))
	for _, r := range t.Rows {
		if len(r.Samples[m]) == 0 {
			continue
		}
		y += rowHeight
		s := spreadOf(r.Samples[m])
		middle := y - barHeight/2 + 2
		fmt.Fprintf(w, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", labelEnd-8, y, html.EscapeString(r.Tool))
		fmt.Fprintf(w, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`+"\n",
			r.Role, labelEnd, middle-barHeight/2, at(s.median)-labelEnd, barHeight)
		fmt.Fprintf(w, `<path class="range" d="M%.1f %dh%.1f"/>`+"\n", at(s.least), middle, at(s.greatest)-at(s.least))
		fmt.Fprintf(w, `<text class="soft" x="%.1f" y="%d">%.0f</text>`+"\n", max(at(s.median), at(s.greatest))+8, y, s.median)
	}
	return y + 2*rowHeight - 8
}
