package report

import (
	"fmt"
	"strings"

	"github.com/shardcast/shardcast/scripts/internal/spread"
)

// slower is the share by which a median may differ from the one of base commands,
// however narrow the ranges are.
const slower = 0.05

// enough is the number of rounds that allow a verdict.
const enough = 3

// Base is the table that compares the commands under test with base commands, which
// the same rounds measured.
type Base struct{ rows strings.Builder }

// Add adds a row. Values are worse when they are greater, unless more is better.
func (b *Base) Add(row string, base, now []float64, digits int, moreIsBetter bool) {
	if len(base) == 0 || len(now) == 0 {
		return
	}
	was, is := spread.Of(base), spread.Of(now)
	cost := is.Median / was.Median
	if moreIsBetter {
		cost = 1 / cost
	}
	verdict := ""
	switch {
	case min(len(base), len(now)) < enough || was.Overlaps(is):
	case cost > 1+slower:
		verdict = "**worse**"
	case cost < 1-slower:
		verdict = "better"
	}
	fmt.Fprintf(&b.rows, "| %s | %s | %s | %.3f | %s |\n",
		strings.ReplaceAll(row, "|", `\|`), spread.Cell(base, digits), spread.Cell(now, digits), cost, verdict)
}

// String is the table under its heading, or nothing without rows.
func (b *Base) String() string {
	if b.rows.Len() == 0 {
		return ""
	}
	return "\n## Beside the base\n\n" +
		"Cost is that of the commands divided by that of the base commands: more than 1 is worse. " +
		fmt.Sprintf("A verdict needs %d rounds, medians that differ by more than %.0f %%, ", enough, 100*slower) +
		"and ranges that do not overlap.\n\n" +
		"| | base | now | cost | |\n|---|---:|---:|---:|---|\n" + b.rows.String()
}
