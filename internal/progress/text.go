package progress

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/shardcast/shardcast"
)

// minBar is the least number of columns for the bar beside numbers.
const minBar = 12

// minColumns is the width below which the speed and state of a server would leave no room
// for its name.
const minColumns = 45

// fileHead is the text before the file's bar.
func fileHead(p *shardcast.Progress, width int) string {
	done := "  --"
	if p.Size >= 0 {
		done = fmt.Sprintf("%3d%%", percent(p.Done, p.Size))
	}
	return cut(escape(p.Version)+" "+done, width)
}

// fileTail is the text behind the file's bar, as far as there is room for it. Each part has
// a fixed width, so that the bar has, too.
func fileTail(p *shardcast.Progress, width int) string {
	tail := ""
	parts := []string{ // the most important first; it stands last
		fmt.Sprintf("%13s", doing(p)),
		fmt.Sprintf("%9s", throughput(p.Speed)),
		fmt.Sprintf("%7s/%s", size(p.Done), total(p)),
	}
	if p.Given > 0 {
		parts = append(parts, fmt.Sprintf("%7s given", size(p.Given)))
	}
	for _, part := range parts {
		if len(tail)+1+len(part)+minBar > width {
			break
		}
		tail = part + " " + tail
	}
	return strings.TrimSuffix(tail, " ")
}

// upstreamRow is the line of upstream i, from 0 on, with its line feed. It is empty where
// height lines have no room for it; the last of these lines counts those left out.
func upstreamRow(p *shardcast.Progress, i, width, height int) string {
	switch more := len(p.Upstreams) - height; {
	case i >= min(height, len(p.Upstreams)):
		return ""
	case more > 0 && i == height-1:
		return cut(fmt.Sprintf("      and %d more", more+1), width) + "\n"
	}
	u := p.Upstreams[i]
	if width < minColumns {
		return cut(fmt.Sprintf("%4d%% %s", percent(u.Received, p.Received), named(u)), width) + "\n"
	}
	return cut(fmt.Sprintf("%4d%% %9s %-7s %s", percent(u.Received, p.Received), throughput(u.Speed), escape(u.State),
		named(u)), width) + "\n"
}

// summarize is a summary of a download, with a line for each server and peer.
func summarize(r shardcast.Result) string {
	var b strings.Builder
	p := r.Progress
	fmt.Fprintf(&b, "%s: %s in %s, %s, %s", escape(r.Version.Name), size(r.Version.Size), seconds(p.Elapsed),
		throughput(p.Speed), english.Plural(r.Version.Shards, "shard", ""))
	var extra []string
	if p.Resumed > 0 {
		extra = append(extra, "resumed "+size(p.Resumed))
	}
	if p.Rebuilt > 0 {
		extra = append(extra, "rebuilt "+size(p.Rebuilt)+" from a delta of "+size(p.Delta))
	}
	if p.Wasted > 0 {
		extra = append(extra, "wasted "+size(p.Wasted))
	}
	if p.Peers > 0 {
		extra = append(extra, fmt.Sprintf("%s (%d%%) from peers", size(p.Peers), percent(p.Peers, p.Received)))
	}
	if p.Given > 0 {
		extra = append(extra, size(p.Given)+" sent to peers")
	}
	if extra != nil {
		b.WriteString("; " + strings.Join(extra, ", "))
	}
	b.WriteByte('\n')
	for _, u := range p.Upstreams {
		fmt.Fprintf(&b, "%4d%% %7s %s", percent(u.Received, p.Received), size(u.Received), named(u))
		if u.Err == "" && (u.State == "failing" || u.State == "refused") {
			b.WriteString(": " + u.State)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// named is the URL of a server or peer, and the reason of its state.
func named(u shardcast.Upstream) string {
	if u.Err == "" {
		return escape(u.URL)
	}
	return escape(u.URL + ": " + u.Err)
}

// doing is the phase of p, or in the usual ones the time that is left.
func doing(p *shardcast.Progress) string {
	switch p.Phase {
	case "", "fetching", "cutting":
		return left(p) + " left"
	default:
		return p.Phase
	}
}

// left is the time that the rest takes at the present speed.
func left(p *shardcast.Progress) string {
	seconds := math.Ceil(float64(p.Size-p.Done) / p.Speed)
	if p.Size < 0 || p.Speed <= 0 || !(seconds < 100*3600) { // NaN too
		return "--"
	}
	return (time.Duration(max(seconds, 0)) * time.Second).String()
}

// seconds is a duration to a tenth of a second, and from a minute on to a second.
func seconds(d time.Duration) string {
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
}

// percent is part in percent of whole, rounded down so that 100 means all of it. Of an empty
// or unknown whole it is 0.
func percent(part, whole int64) int64 {
	if part <= 0 || whole <= 0 {
		return 0
	}
	return int64(min(float64(part)/float64(whole), 1) * 100)
}

func size(bytes int64) string { return humanize.Bytes(uint64(max(bytes, 0))) }

func total(p *shardcast.Progress) string {
	if p.Size < 0 {
		return "?"
	}
	return size(p.Size)
}

// throughput is a number of bytes per second.
func throughput(speed float64) string { return size(int64(finite(speed))) + "/s" }

// finite is speed as a number of bytes: 0 for NaN and infinity, which JSON cannot hold, and
// for negative numbers.
func finite(speed float64) float64 {
	if !(speed >= 0 && speed < math.MaxInt64) {
		return 0
	}
	return math.Round(speed)
}

// escape is text in printable ASCII, with everything else as in a Go string. Each byte of it
// takes one column on any terminal.
func escape(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r >= ' ' && r <= '~' {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return b.String()
}

// cut is escaped text in at most width columns.
func cut(text string, width int) string {
	switch {
	case len(text) <= width:
		return text
	case width < 4:
		return text[:max(width, 0)]
	default:
		return text[:width-3] + "..."
	}
}
