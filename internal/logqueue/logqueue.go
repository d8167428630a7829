// Package logqueue writes log lines behind a bounded queue, so that a reader of a log that
// stops holds up no program: neither an answer, nor a fetch, nor the end. It refuses to know
// the form of a line.
//
// Lines are written whole and in order. Those that find the queue full are dropped, and
// counted.
package logqueue

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// room bounds the lines in a queue, in bytes: some 7,000 lines of an access log.
	room = 1 << 20

	// batch in bytes is the most that lines are written together. POSIX has pipes take so
	// much in one piece at least on Linux (PIPE_BUF), so lines of other writers, such as a
	// hook of follow, come between and not within.
	batch = 4096

	// patience is the longest time that the end of a program waits for the last lines.
	patience = time.Second
)

// dropped counts the lines of all queues.
var dropped atomic.Int64

// Dropped returns the number of lines that this process has not written, because the reader
// of a log was too slow or the log failed.
func Dropped() int64 { return dropped.Load() }

// A Queue is a log's lines on their way to its file. Methods may be called from any
// goroutine.
type Queue struct {
	report func(lost int64, err error)

	mu      sync.Mutex // guards the fields below
	out     io.Writer
	lines   [][]byte
	size    int   // of lines, in bytes
	lost    int64 // lines since the last report
	closed  bool
	changed chan struct{} // of capacity 1: there is a line, or the end
	ended   chan struct{} // closed when all lines are written after the end
}

// New returns a queue to out. It calls report with an error when writing begins to fail, and
// with the number of lines that were lost when writing succeeds again; report may write to
// the same queue.
func New(out io.Writer, report func(lost int64, err error)) *Queue {
	q := &Queue{report: report, out: out, changed: make(chan struct{}, 1), ended: make(chan struct{})}
	go q.run()
	return q
}

// Write takes whole lines. It never waits and never fails.
func (q *Queue) Write(lines []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.size+len(lines) > room {
		q.lose(1)
		return len(lines), nil
	}
	q.lines = append(q.lines, append([]byte(nil), lines...))
	q.size += len(lines)
	q.notify()
	return len(lines), nil
}

// Through has the lines written to out from now on.
func (q *Queue) Through(out io.Writer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.out = out
}

// Close waits until all lines are written, up to a second. Later lines may be lost. It always
// returns nil.
func (q *Queue) Close() error {
	q.mu.Lock()
	q.closed = true
	q.notify()
	q.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-q.ended:
	case <-timer.C:
	}
	return nil
}

// lose counts n lost lines. The caller holds mu.
func (q *Queue) lose(n int64) {
	q.lost += n
	dropped.Add(n)
}

func (q *Queue) notify() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// run writes lines until the end.
func (q *Queue) run() {
	defer close(q.ended)
	failing := false
	for {
		out, text, n := q.take()
		if n == 0 {
			return
		}
		_, err := out.Write(text)
		lost := q.wrote(len(text), n, err != nil)
		switch {
		case err != nil && !failing:
			q.report(0, err)
		case lost > 0:
			q.report(lost, nil)
		}
		failing = err != nil
	}
}

// take waits for the next lines, and returns them with their number. It returns no line after
// the end.
func (q *Queue) take() (out io.Writer, text []byte, n int) {
	for {
		q.mu.Lock()
		for n < len(q.lines) && (n == 0 || len(text)+len(q.lines[n]) <= batch) {
			text = append(text, q.lines[n]...)
			n++
		}
		q.lines = q.lines[n:]
		out, closed := q.out, q.closed
		q.mu.Unlock()
		if n > 0 || closed {
			return out, text, n
		}
		<-q.changed
	}
}

// wrote makes room for what was written, or lost if it failed. It returns the number of lost
// lines to report.
func (q *Queue) wrote(size, lines int, failed bool) (lost int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.size -= size
	if failed {
		q.lose(int64(lines))
		return 0
	}
	lost, q.lost = q.lost, 0
	return lost
}
