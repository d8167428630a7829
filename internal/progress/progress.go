// Package progress shows how a download goes, to somebody at a terminal or to a
// program, and writes as JSON what there is and what has come. It knows of a
// download only what the library's callback tells.
//
// Whatever comes from the network is escaped: no control character reaches a
// terminal, and no line that is drawn is longer than the terminal is wide.
package progress

import (
	"errors"
	"io"
	"os"
	"runtime"

	"github.com/vbauerster/cupwriter"

	"github.com/shardcast/shardcast"
)

// Mode is a flag's way to show progress.
type Mode string

// The modes.
const (
	Auto  Mode = "auto"  // Bar where there is a terminal for it, else Plain
	Bar   Mode = "bar"   // drawn and redrawn; Plain where there is no terminal
	Plain Mode = "plain" // log lines, which are the library's own
	JSON  Mode = "json"  // an object a line
	None  Mode = "none"
)

// Set reads the flag.
func (m *Mode) Set(text string) error {
	switch mode := Mode(text); mode {
	case Auto, Bar, Plain, JSON, None:
		*m = mode
		return nil
	}
	return errors.New("want auto, bar, plain, json or none")
}

// String returns the mode as it is given.
func (m *Mode) String() string { return string(*m) }

// Type is what stands for the value in the help text.
func (m *Mode) Type() string { return "MODE" }

// A Display shows a download, and the next one when that has ended with Done or
// Failed. What else is written to the same place while it does has to go through its
// Write.
type Display struct {
	mode  Mode // never Auto
	out   io.Writer
	bars  *bars  // of Bar
	lines *lines // of JSON
}

// New returns a Display that shows a download on stderr.
func New(mode Mode, stderr *os.File) *Display {
	term := &terminal{ConsoleWriter: cupwriter.New(stderr, false)}
	switch {
	case mode == Bar && !term.IsTerminal(), mode == Auto && !drawable(term):
		mode = Plain
	case mode == Auto:
		mode = Bar
	}
	return newDisplay(mode, stderr, term)
}

func newDisplay(mode Mode, out io.Writer, term *terminal) *Display {
	return &Display{mode: mode, out: out, bars: &bars{term: term, out: out}, lines: &lines{out: out, last: shardcast.Progress{Size: -1}}}
}

// drawable says whether lines can be drawn on term, and drawn again.
func drawable(term *terminal) bool {
	if !term.IsTerminal() {
		return false
	}
	width, height, err := term.ConsoleWriter.GetTermSize()
	if err != nil || width == 0 || height == 0 { // what a serial line says
		return false
	}
	kind := os.Getenv("TERM")
	return kind != "dumb" && (kind != "" || runtime.GOOS == "windows")
}

// Update returns what the library is to call during the download, which is nil
// where the library's log shows it.
func (d *Display) Update() func(shardcast.Progress) {
	switch d.mode {
	case Bar:
		return d.bars.update
	case JSON:
		return d.lines.update
	case None:
		return func(shardcast.Progress) {}
	default:
		return nil
	}
}

// Write writes whole lines, above what is drawn. It may be called from any
// goroutine.
func (d *Display) Write(lines []byte) (int, error) {
	if d.mode == Bar {
		return d.bars.Write(lines)
	}
	return d.out.Write(lines)
}

// Done ends the display of a download that has brought r. With summary it says
// in a few lines how it went, but for JSON, which has its own last line, and
// None.
func (d *Display) Done(r shardcast.Result, summary bool) {
	switch d.mode {
	case JSON:
		d.lines.end("done", r.Progress, nil)
	case None:
	default:
		d.bars.end()
		if summary {
			_, _ = io.WriteString(d.out, summarize(r)) // there is nobody else to tell
		}
	}
}

// Failed ends the display of a download that err has ended, for somebody else to
// print.
func (d *Display) Failed(err error) {
	switch d.mode {
	case JSON:
		d.lines.end("failed", d.lines.last, err)
	default:
		d.bars.end()
	}
}
