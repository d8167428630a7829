package shard

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxVersion is the highest version number. It fits an int64, for programs in other
// languages.
const MaxVersion Version = 999_999_999_999_999_999

// maxVersionDigits is the number of digits of MaxVersion.
const maxVersionDigits = 18

// Version is the number of a published version, from 1. The zero Version is none.
type Version uint64

// ParseVersion reads a version as it stands in names: "v" and a number from 1 without leading
// zeros, of at most 18 digits. A text that it accepts is safe as the name of a directory.
func ParseVersion(s string) (Version, error) {
	digits, ok := strings.CutPrefix(s, "v")
	if !ok || len(digits) > maxVersionDigits || strings.HasPrefix(digits, "0") || !isDigits(digits) {
		return 0, fmt.Errorf("%.40q is not a version: want v1, v2, v3 and so on", s)
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("version %.80q: %w", s, err)
	}
	return Version(n), nil
}

// String returns the version as it stands in names, "v1" for 1.
func (v Version) String() string {
	return "v" + strconv.FormatUint(uint64(v), 10)
}

// isDigits reports whether s consists of one or more ASCII digits; strconv alone would also
// take signs and underscores.
func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
