package status

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
)

// The page is one text: nothing is loaded from anywhere.
var (
	//go:embed page.html
	pageHTML string

	//go:embed page.css
	pageCSS string

	//go:embed page.js
	pageJS string
)

// Policy is the Content-Security-Policy that the page is to be sent with
// (https://www.w3.org/TR/CSP3): what is embedded in it and nothing else may run, and what
// it asks for is on its own server.
func Policy() string {
	return "default-src 'none'; style-src " + source(pageCSS) + "; script-src " + source(pageJS) +
		"; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// source names an embedded text by its digest.
func source(text string) string {
	digest := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) + "'"
}

// page is the template, which those who show no page need not read.
var page = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"css":    func() template.CSS { return template.CSS(pageCSS) },
		"js":     func() template.JS { return template.JS(pageJS) },
		"bytes":  size,
		"speed":  speed,
		"clock":  func(t time.Time) string { return t.UTC().Format("15:04:05 UTC") },
		"date":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"iso":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"age":    age,
		"part":   func(f float64) string { return fmt.Sprintf("%.0f%%", 100*f) },
		"number": func(n int) string { return humanize.Comma(int64(n)) },
		"shards": func(n int) string { return humanize.Comma(int64(n)) + plural(n, " shard") },
		"plural": plural,
	}).Parse(pageHTML))
})

// HTML returns the page.
func (s Status) HTML() ([]byte, error) {
	var text bytes.Buffer
	err := page().Execute(&text, &s) // its fields are asked for by address
	return text.Bytes(), err
}

// size returns bytes as people read them, or a dash for nil.
func size(bytes *int64) string {
	if bytes == nil {
		return "–"
	}
	return strings.ReplaceAll(humanize.Bytes(uint64(max(*bytes, 0))), " ", "\u00a0")
}

func speed(bytes int64) string { return size(&bytes) + "/s" }

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// age returns how long before now t was, in one unit. Clocks of two machines may differ,
// so what is yet to come is now.
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

// Words are what there is to say of the version in short.
func (v Version) Words() string {
	switch {
	case v.State == Waiting:
		return "waits for an upstream"
	case v.ShardCount == v.Here:
		return fmt.Sprintf("all %s%s here", humanize.Comma(int64(v.Here)), plural(v.Here, " shard"))
	}
	text := fmt.Sprintf("%s of %s shards here, ", humanize.Comma(int64(v.Here)), humanize.Comma(int64(v.ShardCount)))
	if v.Arriving > 0 {
		text += humanize.Comma(int64(v.Arriving)) + " arriving, "
	}
	return text + humanize.Comma(int64(v.Missing)) + " missing"
}

// maxRuns is how many runs of shards are put into words.
const maxRuns = 12

// Runs say in words which shards are here, arriving and missing: the same as the strip
// shows.
func (v Version) Runs() string {
	var runs []string
	from, to, what := 1, 0, ""
	end := func() {
		if to < from {
			return
		}
		name := fmt.Sprintf("shard %d", from)
		if to > from {
			name = fmt.Sprintf("shards %d to %d", from, to)
		}
		runs = append(runs, name+" "+what)
		from = to + 1
	}
	for _, c := range v.Cells {
		if now := c.words(); now != what {
			end()
			what = now
		}
		to += c.Shards
	}
	end()
	if len(runs) > maxRuns {
		runs = append(runs[:maxRuns], "and so on")
	}
	return strings.Join(runs, ", ")
}

// words are what is said of a cell's shards.
func (c Cell) words() string {
	switch {
	case c.Here == c.Shards:
		return "here"
	case c.Arriving == c.Shards:
		return "arriving"
	case c.Here+c.Arriving == 0:
		return "missing"
	default:
		return "partly here"
	}
}

// The strip is drawn in a box of stripWidth × stripHeight.
const (
	stripWidth  = 1000
	stripHeight = 20
)

// Box is a part of a strip.
type Box struct {
	Class               string
	X, Y, Width, Height float64
}

// Boxes draw the strip: a cell is filled from below by what is here of it, above that by
// what has come of what arrives, and above that pale by what is to come of it.
func (v Version) Boxes() []Box {
	var boxes []Box
	unit, x := stripWidth/float64(max(v.ShardCount, 1)), 0.0
	for _, c := range v.Cells {
		width, y := unit*float64(c.Shards), float64(stripHeight)
		for _, fill := range []struct {
			class string
			of    float64 // shards
		}{
			{"here", float64(c.Here)},
			{"come", float64(c.Arriving) * c.Part},
			{"coming", float64(c.Arriving) * (1 - c.Part)},
		} {
			height := stripHeight * fill.of / float64(c.Shards)
			if height <= 0 {
				continue
			}
			y -= height
			boxes = append(boxes, Box{fill.class, round(x), round(max(y, 0)), round(width), round(height)})
		}
		x += width
	}
	return boxes
}

// round is to what can be seen.
func round(f float64) float64 { return float64(int64(f*100+0.5)) / 100 }

// maxBorders is up to how many shards are told apart in the strip.
const maxBorders = 64

// Borders are the lines between shards, as an SVG path, if they are few.
func (v Version) Borders() string {
	if v.ShardCount > maxBorders {
		return ""
	}
	var path strings.Builder
	for i := 1; i < v.ShardCount; i++ {
		fmt.Fprintf(&path, "M%g 0V%d", round(float64(i)*stripWidth/float64(v.ShardCount)), stripHeight)
	}
	return path.String()
}

// The plot is drawn in a box of plotWidth × plotHeight.
const (
	plotWidth  = 600
	plotHeight = 120
)

// Plot is the throughput of the last minutes as lines.
type Plot struct {
	// Sent and Received are points of lines, and empty where there are none.
	Sent, Received string

	// Top is what the upper edge stands for, and MostSent and MostReceived the highest
	// speeds, that of now included.
	Top, MostSent, MostReceived int64

	// In says that something can come in at all.
	In bool
}

// Plot draws the throughput as it was at the time of s.
func (s Status) Plot() Plot {
	p := Plot{In: s.Throughput.Received != nil, MostSent: s.Throughput.Sent}
	if p.In {
		p.MostReceived = *s.Throughput.Received
	}
	for _, sample := range s.Throughput.Samples {
		p.MostSent = max(p.MostSent, sample.Sent)
		if sample.Received != nil {
			p.MostReceived = max(p.MostReceived, *sample.Received)
		}
	}
	p.Top = max(p.MostSent, p.MostReceived)
	var sent, received strings.Builder
	for _, sample := range s.Throughput.Samples {
		x := plotWidth * (1 - s.Time.Sub(sample.Time).Seconds()/(MaxSamples*SampleEvery).Seconds())
		y := func(speed int64) float64 {
			return round(plotHeight - (plotHeight-2)*float64(speed)/float64(max(p.Top, 1)))
		}
		fmt.Fprintf(&sent, "%g,%g ", round(max(x, 0)), y(sample.Sent))
		if sample.Received != nil {
			fmt.Fprintf(&received, "%g,%g ", round(max(x, 0)), y(*sample.Received))
		}
	}
	p.Sent, p.Received = strings.TrimSpace(sent.String()), strings.TrimSpace(received.String())
	return p
}
