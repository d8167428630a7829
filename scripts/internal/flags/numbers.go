// Package flags has the types of flags of several programs in scripts.
package flags

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Numbers is a list of numbers of 1 or more; a pointer to it is a flag.
type Numbers []int

// String returns the numbers, separated by commas.
func (n *Numbers) String() string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint([]int(*n)), "[]"), " ", ",")
}

// Set reads 1,10,100, sorts the numbers and drops repeated ones.
func (n *Numbers) Set(s string) error {
	*n = nil
	for field := range strings.SplitSeq(s, ",") {
		i, err := strconv.Atoi(field)
		if err != nil || i < 1 {
			return fmt.Errorf("%q is not a number of 1 or more", field)
		}
		*n = append(*n, i)
	}
	slices.Sort(*n)
	*n = slices.Compact(*n)
	return nil
}
