package main

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Sizes in the picture, in its units.
const (
	plotWidth, plotHeight     = 760, 420
	left, right, top, bottom  = 56, 570, 50, 350 // of the axes
	labelGap                  = 17
	captionLine, captionAbove = 18, 42
)

// plotStyle is by the reader's light or dark theme. The ground is part of the picture,
// so that it can also be read where the page has a theme of its own.
const plotStyle = `<style>
text { font: 13px system-ui, sans-serif; fill: #1f1f1e }
.head { font-weight: 600 }
.soft { fill: #52514e }
.ground { fill: #fcfcfb }
.grid { stroke: #e4e3dd; stroke-width: 1 }
.line { fill: none; stroke-width: 2 }
.dash { stroke-dasharray: 6 4 }
.shardcast { stroke: #2a78d6 } .dot.shardcast { fill: #2a78d6 }
.swarm { stroke: #7a4fd0 } .dot.swarm { fill: #7a4fd0 }
.nginx { stroke: #b8621b } .dot.nginx { fill: #b8621b }
.bittorrent { stroke: #1b8a5a } .dot.bittorrent { fill: #1b8a5a }
.bound { stroke: #8b8982; stroke-width: 1.5; stroke-dasharray: 2 3; fill: none }
@media (prefers-color-scheme: dark) {
	text { fill: #f2f1ee }
	.soft { fill: #c3c2b7 }
	.ground { fill: #1a1a19 }
	.grid { stroke: #33332f }
	.shardcast { stroke: #5aa2f0 } .dot.shardcast { fill: #5aa2f0 }
	.swarm { stroke: #b39af0 } .dot.swarm { fill: #b39af0 }
	.nginx { stroke: #e0935a } .dot.nginx { fill: #e0935a }
	.bittorrent { stroke: #4fc08d } .dot.bittorrent { fill: #4fc08d }
	.bound { stroke: #a3a19a }
}
</style>
`

// A point is a median over so many nodes that are to hold the file.
type point struct{ x, y float64 }

// A curve is one system in one scenario.
type curve struct {
	name, class string
	points      []point
}

// curves are those of the scenarios that were run with several numbers of clients, and
// the bound.
func (r *Report) curves() []curve {
	var all []curve
	limit := curve{name: "bound", class: "bound"}
	for _, x := range r.Results {
		if !x.sweep || len(x.Samples) == 0 {
			continue
		}
		name := x.System + ", " + x.Scenario
		i := slices.IndexFunc(all, func(c curve) bool { return c.name == name })
		if i < 0 {
			i = len(all)
			class := "line " + x.System
			if x.Scenario != "star" {
				class += " dash"
			}
			all = append(all, curve{name: name, class: class})
		}
		n := float64(x.Receivers)
		all[i].points = append(all[i].points, point{n, x.of(func(s Sample) float64 { return s.All })})
		limit.points = append(limit.points, point{n, x.Bound})
	}
	if len(all) == 0 {
		return nil
	}
	all = append(all, limit)
	for i := range all {
		slices.SortFunc(all[i].points, func(a, b point) int { return cmp.Compare(a.x, b.x) })
		all[i].points = slices.Compact(all[i].points)
	}
	return all
}

// step is a round number that goes into most a few times.
func step(most float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(most)))
	for _, s := range []float64{0.1, 0.2, 0.5, 1, 2} {
		if most/(s*unit) <= 6 {
			return s * unit
		}
	}
	return 5 * unit
}

// Plot is an SVG of the time to all nodes over their number, for each system beside
// the bound. It is empty if there is none.
func (r *Report) Plot() string {
	all := r.curves()
	if len(all) == 0 {
		return ""
	}
	most, farthest := 0.0, 0.0
	for _, c := range all {
		for _, p := range c.points {
			most, farthest = max(most, p.y), max(farthest, p.x)
		}
	}
	x := func(v float64) float64 { return left + v/farthest*(right-left) }
	y := func(v float64) float64 { return bottom - v/(1.05*most)*(bottom-top) }
	w := new(strings.Builder)
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="Time to all nodes over their number">`+"\n",
		plotWidth, plotHeight, plotWidth, plotHeight)
	fmt.Fprint(w, plotStyle)
	fmt.Fprintf(w, `<rect class="ground" width="%d" height="%d" rx="6"/>`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(w, `<text class="head" x="20" y="28">Seconds until all nodes hold %s, links of %s</text>`+"\n", r.size.String(), r.rate.String())
	for v := 0.0; v <= 1.05*most; v += step(most) {
		fmt.Fprintf(w, `<path class="grid" d="M%d %.1fH%d"/><text class="soft" x="%d" y="%.1f" text-anchor="end">%.4g</text>`+"\n",
			left, y(v), right, left-8, y(v)+4, v)
	}
	for v := 0.0; v <= farthest; v += max(1, step(farthest)) {
		fmt.Fprintf(w, `<text class="soft" x="%.1f" y="%d" text-anchor="middle">%.0f</text>`+"\n", x(v), bottom+captionLine, v)
	}
	fmt.Fprintf(w, `<text class="soft" x="%d" y="%d">Nodes that are to hold it: clients, and middles in a tree. Medians of %d. %s, %s.</text>`+"\n",
		left, bottom+captionAbove, r.Rounds, html.EscapeString(r.Congestion), r.Date)
	for _, c := range all {
		c.draw(w, x, y)
	}
	labels(w, all, x, y)
	fmt.Fprint(w, "</svg>\n")
	return w.String()
}

// draw draws the line and its points.
func (c curve) draw(w *strings.Builder, x, y func(float64) float64) {
	var path []string
	for _, p := range c.points {
		path = append(path, fmt.Sprintf("%.1f %.1f", x(p.x), y(p.y)))
	}
	fmt.Fprintf(w, `<path class="%s" d="M%s"/>`+"\n", c.class, strings.Join(path, "L"))
	if c.name == "bound" {
		return
	}
	for _, p := range c.points {
		fmt.Fprintf(w, `<circle class="%s" cx="%.1f" cy="%.1f" r="3"><title>%s: %.2f s</title></circle>`+"\n",
			strings.Replace(strings.Replace(c.class, " dash", "", 1), "line", "dot", 1), x(p.x), y(p.y), html.EscapeString(c.name), p.y)
	}
}

// labels stand to the right, each as near as there is room to the end of its line.
func labels(w *strings.Builder, all []curve, x, y func(float64) float64) {
	slices.SortFunc(all, func(a, b curve) int { return cmp.Compare(b.last().y, a.last().y) })
	at := float64(top) - labelGap
	for _, c := range all {
		end := c.last()
		at = max(at+labelGap, y(end.y))
		fmt.Fprintf(w, `<path class="%s" stroke-opacity="0.5" d="M%.1f %.1fL%d %.1fh16"/>`+"\n", c.class, x(end.x)+5, y(end.y), right+6, at)
		fmt.Fprintf(w, `<text x="%d" y="%.1f">%s</text>`+"\n", right+28, at+4, html.EscapeString(c.name))
	}
}

// last is the point with the most nodes.
func (c curve) last() point { return c.points[len(c.points)-1] }
