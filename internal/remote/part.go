package remote

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/shardcast/shardcast/internal/disk"
)

// leastPart in bytes of a range is the least that a server must send of it at once.
const leastPart = 64 << 10

// errUseless means that a server's answer to a range is of no use: it is asked for the whole
// resource.
var errUseless = errors.New("its answer to a range is of no use")

// part is a range of a resource of a size, which is -1 if it is unknown.
type part struct{ from, to, size int64 }

// parsePart reads "bytes 5-9/20" (RFC 9110, section 14.4), where the size may be *.
func parsePart(text string) (part, error) {
	unit, rest, _ := strings.Cut(text, " ")
	bounds, total, _ := strings.Cut(rest, "/")
	first, last, _ := strings.Cut(bounds, "-")
	p := part{size: -1}
	var err, errFirst, errLast error
	p.from, errFirst = parseOffset(first)
	p.to, errLast = parseOffset(last)
	if total != "*" {
		p.size, err = parseOffset(total)
	}
	p.to++
	err = errors.Join(err, errFirst, errLast)
	if err != nil || !strings.EqualFold(unit, "bytes") || p.from >= p.to || p.size >= 0 && p.to > p.size {
		return part{}, fmt.Errorf("the Content-Range %.80q cannot be read", text)
	}
	return p, nil
}

// parseOffset reads digits, a number below 2^63 - 1.
func parseOffset(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err == nil && int64(n)+1 < 0 {
		err = strconv.ErrRange
	}
	return int64(n), err
}

// usablePart returns the part of a resource that an answer has, if it begins where the
// range that was requested does, or before, and has enough of it. The server may choose both
// ends (RFC 9110, section 15.3.7). The error matches errUseless.
func usablePart(resp *http.Response, r Request) (part, error) {
	want := r.Want
	p, err := parsePart(resp.Header.Get("Content-Range"))
	switch {
	case err != nil:
		err = fmt.Errorf("%w: %w", errUseless, err)
	case resp.ContentLength >= 0 && resp.ContentLength != p.to-p.from:
		err = fmt.Errorf("%w: it has %d bytes, and states %d", errUseless, resp.ContentLength, p.to-p.from)
	case p.size >= 0 && r.Size > 0 && p.size != r.Size:
		err = fmt.Errorf("%w: it is of %d bytes in place of %d", errUseless, p.size, r.Size)
	case p.from > want.From, p.to < min(want.To, want.From+leastPart):
		err = fmt.Errorf("%w: it has bytes %d to %d in place of %d to %d",
			errUseless, p.from, p.to-1, want.From, want.To-1)
	}
	return p, err
}

// unsatisfied is the error for an answer that says that there is no such range. It matches
// errUseless unless the resource is shorter than that.
func unsatisfied(header http.Header, want disk.Range) error {
	total, ok := strings.CutPrefix(header.Get("Content-Range"), "bytes */")
	if size, err := parseOffset(total); ok && err == nil && size <= want.From {
		return Unsatisfiable
	}
	return fmt.Errorf("%w: %w", errUseless, Unsatisfiable)
}
