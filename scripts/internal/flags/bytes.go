package flags

import (
	"errors"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
)

// Bytes is a number of bytes, or of bytes per second; a pointer to it is a flag.
type Bytes int64

// String returns the number as people write it: 1.0GiB is 1GiB.
func (b *Bytes) String() string {
	for _, f := range []func(uint64) string{humanize.Bytes, humanize.IBytes} {
		s := strings.ReplaceAll(strings.ReplaceAll(f(uint64(*b)), " ", ""), ".0", "")
		if n, err := humanize.ParseBytes(s); err == nil && n == uint64(*b) {
			return s
		}
	}
	return strconv.FormatInt(int64(*b), 10)
}

// Set reads 50MB, 1GiB, 50000000, and 50MB/s.
func (b *Bytes) Set(s string) error {
	n, err := humanize.ParseBytes(strings.TrimSuffix(s, "/s"))
	if err == nil && n > 1<<50 {
		err = errors.New("want less than 1 PiB")
	}
	*b = Bytes(n)
	return err
}
