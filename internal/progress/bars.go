package progress

import (
	"bytes"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/shardcast/shardcast"
)

// refresh is the time between two drawings: a shorter one is unreadable, a longer one looks
// stuck.
const refresh = 200 * time.Millisecond

// bars draws a line for the file and one for each server and peer. They stand on the
// terminal from the first update to the end.
type bars struct {
	term *terminal
	out  io.Writer // for lines when nothing is drawn

	last atomic.Pointer[shardcast.Progress] // to draw; nil before the first update

	mu       sync.Mutex // guards the fields below, and the order of writes
	progress *mpb.Progress
	bar      *mpb.Bar
}

// update replaces the progress to draw with p. It never waits for the terminal.
func (b *bars) update(p shardcast.Progress) {
	p.Upstreams = slices.Clone(p.Upstreams) // the caller may change its own before they are drawn
	if b.last.Swap(&p) == nil {
		b.start(len(p.Upstreams))
	}
}

func (b *bars) start(upstreams int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.progress = mpb.New(mpb.WithConsoleWriter(b.term), mpb.WithRefreshRate(refresh))
	rows := make([]mpb.BarFiller, upstreams)
	for i := range rows {
		rows[i] = mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
			_, err := io.WriteString(w, upstreamRow(b.last.Load(), i, s.AvailableWidth, b.term.height()-1))
			return err
		})
	}
	shape := mpb.BarStyle().Build()
	// The bar has no total of its own, or it would end itself at 100%, although the
	// last shard may fail its digest. It is nil if the terminal has gone already.
	b.bar, _ = b.progress.Add(0,
		mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
			p := b.last.Load()
			s.Completed = p.Done >= p.Size
			s.Total, s.Current, s.Refill = p.Size, p.Done, min(p.Resumed, p.Done)
			return shape.Fill(w, s)
		}),
		mpb.PrependDecorators(decor.Any(func(s decor.Statistics) string {
			return fileHead(b.last.Load(),
				s.AvailableWidth)
		})),
		mpb.AppendDecorators(decor.Any(func(s decor.Statistics) string {
			return fileTail(b.last.Load(),
				s.AvailableWidth)
		})),
		mpb.BarBtmExtender(rows...),
	)
}

// Write writes whole lines above the bars.
func (b *bars) Write(lines []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.progress != nil {
		if n, err := b.progress.Write(lines); err == nil {
			return n, nil
		} // else the bars have ended, or their terminal has gone
	}
	return b.out.Write(lines)
}

// end removes the bars from the terminal. Earlier lines stand there when it returns, and
// later ones go there directly, because mpb loses lines after its last drawing.
func (b *bars) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		b.bar.Abort(true)
		b.progress.Wait()
		b.bar, b.progress = nil, nil // there may be another download
		b.last.Store(nil)
	}
}

// returning begins each drawing over an earlier one in the first column: a key that a terminal
// echoes, such as ^C, moves the cursor, and what stands left of it would stay.
type returning struct{ out io.Writer }

func (r returning) Write(drawing []byte) (int, error) {
	if !bytes.HasPrefix(drawing, []byte("\x1b[")) {
		return r.out.Write(drawing)
	}
	n, err := r.out.Write(append([]byte{'\r'}, drawing...))
	return max(n-1, 0), err
}

// terminal is the terminal that mpb draws on.
type terminal struct {
	mpb.ConsoleWriter

	rows atomic.Int64 // its height at the last drawing, in lines
}

// GetTermSize returns the size to draw in: a column less than the terminal has, because
// some terminals wrap a line that ends in the last one, and any number of lines, because
// mpb loses count where it may draw fewer than there are; upstreamRow leaves out the rest.
func (t *terminal) GetTermSize() (width, height int, err error) {
	width, height, err = t.ConsoleWriter.GetTermSize()
	if width == 0 || height == 0 { // unknown
		width, height = 80, 24
	}
	t.rows.Store(int64(height))
	return max(width-1, 1), math.MaxInt32, err
}

// height is the number of lines above the cursor's.
func (t *terminal) height() int { return int(t.rows.Load()) - 1 }
