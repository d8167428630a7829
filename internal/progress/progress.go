// Package progress shows a download or broadcast, on a terminal or to a program, and writes
// versions and results as JSON. It knows either only by the library's callback.
//
// It escapes text from the network: no control character reaches a terminal, and
// no drawn line is longer than the terminal is wide.
package progress

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/vbauerster/cupwriter"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/logqueue"
)

// Mode is a flag's way to show progress.
type Mode string

// The modes.
const (
	Auto  Mode = "auto"  // Bar where there is a terminal for it, else Plain
	Bar   Mode = "bar"   // drawn and redrawn; Plain where there is no terminal
	Plain Mode = "plain" // log lines, which the library writes
	JSON  Mode = "json"  // one object per line
	None  Mode = "none"

	logged Mode = "logged" // log lines alone, see [Mode.BesideJSON]
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

// String returns the mode as the flag takes it.
func (m *Mode) String() string { return string(*m) }

// BesideJSON returns the mode where each line of the log is an object of JSON: the same, or
// where that writes other lines, log lines alone.
func (m Mode) BesideJSON() Mode {
	if m == JSON || m == None {
		return m
	}
	return logged
}

// Type stands for the value in the help.
func (m *Mode) Type() string { return "MODE" }

// A Display shows a download, and the next one after Done or Failed. Every other writer to
// the same terminal has to use its Write.
type Display struct {
	mode   Mode // never Auto
	stderr io.Writer
	log    io.Writer // receives the display's own lines, and leads to Write
	bars   *bars     // of Bar
	lines  *lines    // of JSON
}

// New returns a Display that shows a download on stderr, and has log write there through it.
// No method of it but Write waits for a reader of stderr for longer than a second.
func New(mode Mode, stderr *os.File, log *logqueue.Queue) *Display {
	console := cupwriter.New(returning{stderr}, false)
	console.SetTermFd(int(stderr.Fd()))
	term := &terminal{ConsoleWriter: console}
	switch {
	case mode == Bar && !term.IsTerminal(), mode == Auto && !drawable(term):
		mode = Plain
	case mode == Auto:
		mode = Bar
	}
	d := newDisplay(mode, stderr, log, term)
	log.Through(d)
	return d
}

func newDisplay(mode Mode, stderr, log io.Writer, term *terminal) *Display {
	lines := &lines{out: log, last: shardcast.Progress{Size: -1}}
	return &Display{mode: mode, stderr: stderr, log: log, bars: &bars{term: term, out: stderr}, lines: lines}
}

// drawable says whether lines can be drawn on term, and drawn again.
func drawable(term *terminal) bool {
	if !term.IsTerminal() {
		return false
	}
	width, height, err := term.ConsoleWriter.GetTermSize()
	if err != nil || width == 0 || height == 0 { // a serial line
		return false
	}
	kind := os.Getenv("TERM")
	return kind != "dumb" && kind != ""
}

// Update returns the library's callback, which is nil where the library logs progress
// itself.
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

// Write writes whole lines above the bars. Any goroutine may call it.
func (d *Display) Write(lines []byte) (int, error) {
	if d.mode == Bar {
		return d.bars.Write(lines)
	}
	return d.stderr.Write(lines)
}

// Done ends the display of the download r. With summary it writes a few lines about it,
// except for None, and for JSON, which has a last line of its own.
func (d *Display) Done(r shardcast.Result, summary bool) {
	switch d.mode {
	case JSON:
		d.lines.end("done", r.Progress, nil)
	case None, logged:
	default:
		d.End()
		if summary {
			_, _ = io.WriteString(d.log, summarize(r)) // stderr is gone, and with it the reader of an error
		}
	}
}

// Failed ends the display of a download that err has ended. The caller prints err.
func (d *Display) Failed(err error) {
	switch d.mode {
	case JSON:
		d.lines.end("failed", d.lines.last, err)
	default:
		d.End()
	}
}

// patience is the longest time to wait for a terminal that was stopped, by Ctrl-S.
const patience = time.Second

// End removes the bars of a download that neither is done nor has failed, if the terminal takes
// that in time.
func (d *Display) End() {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.bars.end()
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	}
}
