package cli

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"

	"github.com/shardcast/shardcast"
)

// Size is a flag's number of bytes, 1 or more: 50MB, 64MiB or 50000000.
type Size int64

// Set reads the flag.
func (s *Size) Set(text string) error {
	n, err := humanize.ParseBytes(text)
	if strings.Contains(text, ",") {
		err = errors.New("a comma means different things in different countries")
	}
	if err != nil || n < 1 || n > math.MaxInt64 {
		return errors.New("want a size from 1 byte on, such as 50MB, 64MiB or 50000000")
	}
	*s = Size(n)
	return nil
}

// String returns the size in bytes.
func (s *Size) String() string { return strconv.FormatInt(int64(*s), 10) }

// Type stands for the value in the help.
func (s *Size) Type() string { return "SIZE" }

// ShardSize is a flag's [Size], or auto.
type ShardSize int64

// Set reads the flag.
func (s *ShardSize) Set(text string) error {
	if text == "auto" {
		*s = shardcast.AutoShardSize
		return nil
	}
	var size Size
	if err := size.Set(text); err != nil {
		return fmt.Errorf("%w; or auto", err)
	}
	*s = ShardSize(size)
	return nil
}

// String returns the size in bytes, or auto.
func (s *ShardSize) String() string {
	if *s == shardcast.AutoShardSize {
		return "auto"
	}
	return (*Size)(s).String()
}

// Type stands for the value in the help.
func (s *ShardSize) Type() string { return "SIZE" }

// Rate is a flag's number of bytes per second, 1 or more: 50MB/s, 64MiB/s or 50000000,
// with or without /s.
type Rate int64

// Set reads the flag.
func (r *Rate) Set(text string) error {
	var perSecond Size
	if err := perSecond.Set(strings.TrimSuffix(text, "/s")); err != nil {
		return errors.New("want 1 byte per second or more, such as 50MB/s, 64MiB/s or 50000000")
	}
	*r = Rate(perSecond)
	return nil
}

// String returns the number of bytes.
func (r *Rate) String() string { return strconv.FormatInt(int64(*r), 10) }

// Type stands for the value in the help.
func (r *Rate) Type() string { return "RATE" }

// maxWait bounds durations, so that sums of them stay in range.
const maxWait = 365 * 24 * time.Hour

// Seconds is a flag's duration above 0 and up to a year: a number of seconds, or a duration
// with its unit, such as 1m30s.
type Seconds time.Duration

// Set reads the flag.
func (s *Seconds) Set(text string) error {
	dur, err := parseWait(text)
	if err != nil || dur <= 0 {
		return errors.New("want a number of seconds above 0 and up to a year, or a duration such as 1m30s")
	}
	*s = Seconds(dur)
	return nil
}

// parseWait reads a duration from 0 up to a year.
func parseWait(text string) (time.Duration, error) {
	dur, err := time.ParseDuration(text)
	if err != nil {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(n) || n > maxWait.Seconds() {
			return 0, errors.New("not a duration")
		}
		dur = time.Duration(max(n, -1) * float64(time.Second))
	}
	if dur < 0 || dur > maxWait {
		return 0, errors.New("out of range")
	}
	return dur, nil
}

// String returns the number of seconds.
func (s *Seconds) String() string {
	return strconv.FormatFloat(time.Duration(*s).Seconds(), 'f', -1, 64)
}

// Type stands for the value in the help.
func (s *Seconds) Type() string { return "SECONDS" }

// Patience is a flag's duration as of [Seconds], or 0.
type Patience time.Duration

// Set reads the flag.
func (p *Patience) Set(text string) error {
	dur, err := parseWait(text)
	if err != nil {
		return errors.New("want a number of seconds from 0 up to a year, or a duration such as 1m30s")
	}
	*p = Patience(dur)
	return nil
}

// String returns the number of seconds.
func (p *Patience) String() string { return (*Seconds)(p).String() }

// Type stands for the value in the help.
func (p *Patience) Type() string { return "SECONDS" }

// maxCount is far above any sensible number of versions, shards or rounds.
const maxCount = 1_000_000

// Count is a flag's number of things, from 1 to a million.
type Count int

// Set reads the flag.
func (c *Count) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxCount {
		return fmt.Errorf("want a whole number from 1 to %d", maxCount)
	}
	*c = Count(n)
	return nil
}

// String returns the number.
func (c *Count) String() string { return strconv.Itoa(int(*c)) }

// Type stands for the value in the help.
func (c *Count) Type() string { return "NUMBER" }

// Number is a flag's number of a version in a run, which may have zeros before it.
type Number int64

// maxNumber fits 18 digits, as the numbers of versions do.
const maxNumber = 999_999_999_999_999_999

// Set reads the flag.
func (n *Number) Set(text string) error {
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil || number > maxNumber {
		return fmt.Errorf("want a whole number up to %d", maxNumber)
	}
	*n = Number(number)
	return nil
}

// String returns the number.
func (n *Number) String() string { return strconv.FormatInt(int64(*n), 10) }

// Type stands for the value in the help.
func (n *Number) Type() string { return "NUMBER" }

// Port is a flag's TCP port as the library's options have it: 0, any free port, is
// negative there.
type Port int

const anyPort = -1

// Set reads the flag.
func (p *Port) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return errors.New("want a port from 0 to 65535")
	}
	*p = Port(n)
	if n == 0 {
		*p = anyPort
	}
	return nil
}

// String returns the number.
func (p *Port) String() string { return strconv.Itoa(max(int(*p), 0)) }

// Type stands for the value in the help.
func (p *Port) Type() string { return "PORT" }

// Dialect is a flag's release of the Python package: 0.1, 0.2 or 0.3.
type Dialect string

// Set reads the flag.
func (d *Dialect) Set(text string) error {
	if !slices.Contains([]string{"0.1", "0.2", "0.3"}, text) {
		return errors.New("want 0.1, 0.2 or 0.3")
	}
	*d = Dialect(text)
	return nil
}

// String returns the release.
func (d *Dialect) String() string { return string(*d) }

// Type stands for the value in the help.
func (d *Dialect) Type() string { return "RELEASE" }

// Prefixes is a flag's list of IP prefixes in CIDR notation (RFC 4632, section 3.1),
// separated by commas. Repeating the flag adds to the list.
type Prefixes []netip.Prefix

// Set reads the flag.
func (p *Prefixes) Set(text string) error {
	var all []netip.Prefix
	for _, word := range strings.Split(text, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(word))
		if err != nil || prefix.Addr().Is4In6() {
			return errors.New("want IP prefixes, such as 10.0.0.0/8 or 2001:db8::/32")
		}
		all = append(all, prefix.Masked())
	}
	*p = append(*p, all...)
	return nil
}

// String returns the prefixes with commas.
func (p *Prefixes) String() string {
	var words []string
	for _, prefix := range *p {
		words = append(words, prefix.String())
	}
	return strings.Join(words, ",")
}

// Type stands for the value in the help.
func (p *Prefixes) Type() string { return "CIDR" }

// Addresses is a flag's list of servers, see [ParseList].
type Addresses []string

// Set reads the flag.
func (a *Addresses) Set(text string) error {
	list, err := ParseList(text)
	if err != nil {
		return err
	}
	*a = list
	return nil
}

// String returns the list with commas.
func (a *Addresses) String() string { return strings.Join(*a, ",") }

// Type stands for the value in the help.
func (a *Addresses) Type() string { return "ADDRESSES" }

// ParseList reads a list of servers, separated by commas or white space, each with or
// without quotes, the whole with or without parentheses: a,b and the two forms of
// IP_ADDR_LIST, a b and ("a" "b"). No error has the text, which may hold a password.
func ParseList(text string) ([]string, error) {
	inner := strings.TrimSpace(text)
	if rest, ok := strings.CutPrefix(inner, "("); ok {
		if inner, ok = strings.CutSuffix(rest, ")"); !ok {
			return nil, errors.New("the closing parenthesis is missing")
		}
	}
	var list []string
	for _, word := range strings.FieldsFunc(inner, isSeparator) {
		if len(word) >= 2 && (word[0] == '"' || word[0] == '\'') && word[len(word)-1] == word[0] {
			word = word[1 : len(word)-1]
		}
		if word == "" || strings.ContainsAny(word, `"'()`) {
			return nil, errors.New(`want servers as a,b or "a b" or ("a" "b")`)
		}
		list = append(list, word)
	}
	if list == nil {
		return nil, errors.New("it names no server")
	}
	return list, nil
}

func isSeparator(r rune) bool {
	return r == ',' || unicode.IsSpace(r)
}

// Labels is a flag's names and values of labels, each given as NAME=VALUE.
type Labels map[string]string

// Set reads the flag once more.
func (l *Labels) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return errors.New("want NAME=VALUE")
	}
	if *l == nil {
		*l = make(Labels)
	}
	(*l)[name] = value
	return nil
}

// String returns the labels with commas, in the order of their names.
func (l *Labels) String() string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(*l)) {
		words = append(words, name+"="+(*l)[name])
	}
	return strings.Join(words, ",")
}

// Type stands for the value in the help.
func (l *Labels) Type() string { return "NAME=VALUE" }
