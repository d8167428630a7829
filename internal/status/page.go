package status

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
)

// The page is one text with its style and its script.
var (
	//go:embed page.html
	pageHTML string

	//go:embed page.css
	pageCSS string

	//go:embed page.js
	pageJS string
)

// Policy returns the page's Content-Security-Policy (https://www.w3.org/TR/CSP3): the
// embedded style and script alone take effect, and requests go to the page's own server.
func Policy() string {
	hash := func(text string) string {
		digest := sha256.Sum256([]byte(text))
		return "'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) + "'"
	}
	return "default-src 'none'; style-src " + hash(pageCSS) + "; script-src " + hash(pageJS) +
		"; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// page is parsed when a server first shows it.
var page = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"css":     func() template.CSS { return template.CSS(pageCSS) },
		"js":      func() template.JS { return template.JS(pageJS) },
		"size":    size,
		"bytes":   func(bytes int64) string { return size(&bytes) },
		"speed":   func(bytes int64) string { return size(&bytes) + "/s" },
		"percent": func(share float64) string { return fmt.Sprintf("%.0f%%", 100*share) },
		"number":  func(n int) string { return humanize.Comma(int64(n)) },
		"count":   count,
		"age":     age,
		"yes":     func(is *bool) bool { return is != nil && *is },
		"lacking": lacking,
		"pieces":  pieces.FindAllString,
		"port":    port.MatchString,
	}).Parse(pageHTML))
})

// A line of text may break between its pieces: ports, such as :8000, and the text between
// ports and slashes.
var (
	pieces = regexp.MustCompile(`(?s):\d+:?|/?(?:[^:/]|://|:[^\d/]|:$)+|.`)
	port   = regexp.MustCompile(`^:\d+:?$`)
)

// HTML returns the page.
func (s Status) HTML() ([]byte, error) {
	var text bytes.Buffer
	err := page().Execute(&text, &s) // by address: size takes the addresses of fields
	return text.Bytes(), err
}

// size returns bytes in a unit for people, or a dash for nil.
func size(bytes *int64) string {
	if bytes == nil {
		return "–"
	}
	return strings.ReplaceAll(humanize.Bytes(uint64(max(*bytes, 0))), " ", "\u00a0")
}

// count returns "1 shard" or "2 shards".
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return humanize.Comma(int64(n)) + " " + noun
}

// age returns how long before now t was, in one unit. A time after now, from another
// machine's clock, counts as now.
func age(t, now time.Time) string {
	d := max(now.Sub(t), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d\u00a0s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d\u00a0min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d\u00a0h", d/time.Hour)
	default:
		return fmt.Sprintf("%d\u00a0days", d/(24*time.Hour))
	}
}

// unfolded is the number of versions that the page shows at once, the newest ones.
const unfolded = 10

// Folded returns the versions that the page shows at once, and the ones that it unfolds,
// each if there are any.
func (s Status) Folded() [][]Version {
	n := min(unfolded, len(s.Versions))
	parts := [][]Version{s.Versions[:n], s.Versions[n:]}
	return slices.DeleteFunc(parts, func(some []Version) bool { return len(some) == 0 })
}

// lacking returns the number of versions that are not all here.
func lacking(versions []Version) (n int) {
	for _, v := range versions {
		if v.State != Here {
			n++
		}
	}
	return n
}

// Left returns when an arriving version will be here, or that none of it comes; and no text
// while that is unknown.
func (v Version) Left(now time.Time) string {
	switch {
	case v.Speed == nil:
		return ""
	case *v.Speed == 0:
		return "stands still"
	case v.Arrival.IsZero():
		return "more than a year left"
	}
	at := v.Arrival.UTC().Format("15:04\u00a0UTC")
	if v.Arrival.Sub(now) >= 12*time.Hour {
		at = v.Arrival.UTC().Format("2\u00a0Jan 15:04\u00a0UTC")
	}
	return fmt.Sprintf("here in about %s, %s", age(now, v.Arrival), at)
}

// Most returns the highest speeds of t, out, in, and of both.
func (t Throughput) Most() (most struct{ Sent, Received, Either int64 }) {
	now := Sample{Sent: t.Sent, Received: t.Received}
	for _, s := range append([]Sample{now}, t.Samples...) {
		most.Sent = max(most.Sent, s.Sent)
		if s.Received != nil {
			most.Received = max(most.Received, *s.Received)
		}
	}
	most.Either = max(most.Sent, most.Received)
	return most
}
