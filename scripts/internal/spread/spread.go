// Package spread summarises a few measurements of one thing, and compares two sets.
package spread

import (
	"cmp"
	"fmt"
	"slices"
)

// A Spread is the median of values with the least and the greatest.
type Spread struct{ Median, Least, Greatest float64 }

// Of returns the spread of values, of which there is at least one. The median of an
// even number of values is the mean of the two in the middle.
func Of(values []float64) Spread {
	values = slices.SortedFunc(slices.Values(values), cmp.Compare)
	n := len(values)
	return Spread{(values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1]}
}

// Overlaps reports whether the ranges of both have a value in common.
func (s Spread) Overlaps(other Spread) bool {
	return s.Least <= other.Greatest && other.Least <= s.Greatest
}

// Cell returns the median with that many digits after the point, and the range where
// there is more than one value.
func Cell(values []float64, digits int) string {
	if len(values) == 0 {
		return ""
	}
	s := Of(values)
	text := fmt.Sprintf("%.*f", digits, s.Median)
	if len(values) > 1 {
		text += fmt.Sprintf(" (%.*f to %.*f)", digits, s.Least, digits, s.Greatest)
	}
	return text
}
