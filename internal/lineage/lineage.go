// Package lineage tells by three labels of a version which place it has in a run, and which version it
// needs. It refuses to know versions, and where labels come from.
//
//	run      the run that a version is of, a text; none is a run, too
//	number   its number in the run, a decimal number from 1 without leading zeros
//	after    the number that it needs: the newest older version of the run that has it
//
// A version without a number has no place, and one without after needs no other.
package lineage

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The names of the labels.
const (
	Run    = "run"
	Number = "number"
	After  = "after"
)

// A Place is that of a version in its run. The zero Number is none.
type Place struct{ Run, Number string }

// String is the place as text.
func (p Place) String() string {
	if p.Run == "" {
		return "number " + p.Number
	}
	return fmt.Sprintf("number %s of run %s", p.Number, p.Run)
}

// PlaceOf returns the place of a version with labels, and false if it has none.
func PlaceOf(labels map[string]string) (p Place, ok bool) {
	p = Place{labels[Run], labels[Number]}
	return p, p.Number != ""
}

// NeedOf returns the place of the version that one with labels needs, and false if it needs none.
func NeedOf(labels map[string]string) (p Place, ok bool) {
	p = Place{labels[Run], labels[After]}
	return p, p.Number != ""
}

// Labels returns those of labels that make a place in a run, and nil if there are none.
func Labels(labels map[string]string) (place map[string]string) {
	for _, name := range []string{Run, Number, After} {
		value, ok := labels[name]
		if ok && place == nil {
			place = make(map[string]string)
		}
		if ok {
			place[name] = value
		}
	}
	return place
}

// HasRun reports whether a version with labels is of a run, maybe of the one without a name.
func HasRun(labels map[string]string) bool { return labels[Run] != "" || labels[Number] != "" }

// maxDigits is the number of digits of the largest number, that of a version's.
const maxDigits = 18

// MaxNumber is the largest number of a version in a run. It fits an int64.
const MaxNumber = 999_999_999_999_999_999

// ParseNumber reads a number, from 0, that may have zeros before it.
func ParseNumber(text string) (int64, error) {
	digits := strings.TrimLeft(text, "0")
	if text == "" || strings.Trim(text, "0123456789") != "" || len(digits) > maxDigits {
		return 0, fmt.Errorf("%.80q is not a number from 0 to %d", text, MaxNumber)
	}
	if digits == "" {
		return 0, nil
	}
	return strconv.ParseInt(digits, 10, 64)
}

// Check returns an error if labels make no place in a run.
func Check(labels map[string]string) error {
	for _, name := range []string{Number, After} {
		value, ok := labels[name]
		if n, err := ParseNumber(value); ok && (err != nil || n == 0 || value[0] == '0') {
			return fmt.Errorf("the label %s is %.80q, want a number from 1 without leading zeros", name, value)
		}
	}
	if labels[After] != "" && labels[Number] == "" {
		return errors.New("the label after wants the label number: a version without a place needs none")
	}
	return nil
}
