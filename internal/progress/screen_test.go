package progress

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/vbauerster/cupwriter"
)

// screen is the visible text of a terminal that is never scrolled. It
// accepts lines in ASCII and the two sequences of mpb, the first after a carriage return, and
// fails the test for any other.
type screen struct {
	t *testing.T

	mu            sync.Mutex // guards the fields below
	width, height int
	lines         []string
	row           int   // of the cursor, which stands in the first column between writes
	broken        error // the error of Write and GetTermSize
	writes        int
}

func newScreen(t *testing.T, width, height int) *screen {
	return &screen{t: t, width: width, height: height, lines: []string{""}}
}

var sequence = regexp.MustCompile(`^\r\x1b\[([0-9]+)A|^\x1b\[J`)

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return 0, s.broken
	}
	s.writes++
	for rest := p; len(rest) > 0; {
		if found := sequence.FindSubmatch(rest); found != nil {
			rest = rest[len(found[0]):]
			if n, err := strconv.Atoi(string(found[1])); err == nil {
				s.row -= n
				assert.GreaterOrEqual(s.t, s.row, 0, "above the top")
			} else {
				s.lines = append(s.lines[:s.row], "")
			}
			continue
		}
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		rest = after
		if !assert.True(s.t, ended, "not a whole line: %q", line) ||
			!assert.Regexp(s.t, `^[ -~]*$`, string(line), "a control character") {
			continue
		}
		s.lines[s.row] = string(line)
		s.row++
		if s.row == len(s.lines) {
			s.lines = append(s.lines, "")
		}
	}
	return len(p), nil
}

// text is the text on the screen.
func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.TrimRight(strings.Join(s.lines, "\n"), "\n")
}

func (s *screen) resize(width, height int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.width, s.height = width, height
}

func (s *screen) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = errors.New("input/output error")
}

// console is a screen as mpb sees it.
type console struct {
	*cupwriter.Writer

	screen *screen
}

func (c console) IsTerminal() bool { return true }

func (c console) GetTermSize() (width, height int, err error) {
	c.screen.mu.Lock()
	defer c.screen.mu.Unlock()
	return c.screen.width, c.screen.height, c.screen.broken
}

// displayOn returns a Display that draws on s, and writes to log after that.
func displayOn(s *screen, log io.Writer) *Display {
	return newDisplay(Bar, log, log, &terminal{ConsoleWriter: console{cupwriter.New(returning{s}, true), s}})
}
