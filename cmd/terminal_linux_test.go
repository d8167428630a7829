package cmd_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal of the system, and the screen that a person would see on it. It
// echoes keys, and ^C on it interrupts, as on any other.
type terminal struct {
	t      *testing.T
	keys   *os.File // the person's end
	device *os.File // the program's end
	width  int
	closed chan struct{} // when the program's end is

	mu      sync.Mutex // guards what follows
	rows    [][]byte   // from the first on, also those that have left the screen
	goesOn  []bool     // by row: it was full, and its line goes on in the next one
	row     int        // of the cursor
	column  int
	changed chan struct{} // closed and replaced by each write
}

const screenHeight = 24 // rows

func newTerminal(t *testing.T, width int) *terminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = keys.Close() })
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0))
	size := &unix.Winsize{Row: screenHeight, Col: uint16(width)}
	require.NoError(t, unix.IoctlSetWinsize(int(keys.Fd()), unix.TIOCSWINSZ, size))
	device, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	term := &terminal{
		t: t, keys: keys, device: device, width: width,
		closed: make(chan struct{}), changed: make(chan struct{}), rows: [][]byte{nil}, goesOn: []bool{false},
	}
	go term.show()
	return term
}

// show shows all that the program writes.
func (term *terminal) show() {
	defer close(term.closed)
	var text []byte
	buf := make([]byte, 4096)
	for {
		n, err := term.keys.Read(buf)
		if err != nil {
			return // EIO, when no process has the terminal open
		}
		text = append(text, buf[:n]...)
		term.mu.Lock()
		text = text[term.draw(text):]
		close(term.changed)
		term.changed = make(chan struct{})
		term.mu.Unlock()
	}
}

var move = regexp.MustCompile(`^\x1b\[([0-9]*)([AJ])`)

// draw draws text, and returns how much of it; the rest is a part of a sequence.
func (term *terminal) draw(text []byte) (drawn int) {
	for drawn < len(text) {
		switch key := text[drawn]; key {
		case '\r':
			term.column = 0
		case '\n':
			term.down()
		case '\x1b':
			found := move.FindSubmatch(text[drawn:])
			if found == nil {
				return drawn
			}
			if string(found[2]) == "A" {
				up, _ := strconv.Atoi(string(found[1]))
				term.row = max(term.row-max(up, 1), len(term.rows)-screenHeight, 0)
			} else {
				row := term.rows[term.row]
				term.rows = append(term.rows[:term.row], row[:min(term.column, len(row))])
				term.goesOn = append(term.goesOn[:term.row], false)
			}
			drawn += len(found[0])
			continue
		default:
			if term.column == term.width {
				term.goesOn[term.row] = true
				term.down()
				term.column = 0
			}
			row := term.rows[term.row]
			for len(row) <= term.column {
				row = append(row, ' ')
			}
			row[term.column] = key
			term.rows[term.row] = row
			term.column++
		}
		drawn++
	}
	return drawn
}

func (term *terminal) down() {
	term.row++
	if term.row == len(term.rows) {
		term.rows, term.goesOn = append(term.rows, nil), append(term.goesOn, false)
	}
}

// lines are the lines on the screen and above it, each as one although it may take several rows.
func (term *terminal) lines() []string {
	term.mu.Lock()
	defer term.mu.Unlock()
	var lines []string
	line := ""
	for i, row := range term.rows {
		if line += string(row); !term.goesOn[i] {
			lines = append(lines, strings.TrimRight(line, " "))
			line = ""
		}
	}
	return lines
}

// await waits until a row matches, and returns it.
func (term *terminal) await(row string) string {
	term.t.Helper()
	want, timeout := regexp.MustCompile(row), time.After(patience)
	for {
		term.mu.Lock()
		changed := term.changed
		for _, row := range term.rows {
			if want.Match(row) {
				defer term.mu.Unlock()
				return string(row)
			}
		}
		term.mu.Unlock()
		select {
		case <-changed:
		case <-timeout:
			require.Fail(term.t, "no such row", "%s in:\n%s", want, strings.Join(term.lines(), "\n"))
		}
	}
}

// run starts cmd on the terminal. What it does not redirect itself is the terminal's.
func (term *terminal) run(cmd *exec.Cmd) {
	term.t.Helper()
	cmd.Env = append(os.Environ(), "TERM=xterm")
	cmd.Stdout, cmd.Stderr = term.device, term.device
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 1}
	require.NoError(term.t, cmd.Start())
	term.t.Cleanup(func() { _ = cmd.Process.Kill() })
	require.NoError(term.t, term.device.Close())
}

// A person types ^C while the bar is drawn: no part of the bar is left, nor of the echoed ^C, and
// the last line says how to go on.
func TestACommandThatIsInterruptedLeavesACleanScreen(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	origin := command(ctx, t, "shardcast-origin", "--data-dir", published(t), "--host", "127.0.0.1", "--port", "0")
	log, err := origin.StderrPipe()
	require.NoError(t, err)
	address := serve(t, origin, log)

	slow := []string{"--servers", address, "--limit-rate", "1KB/s"}
	for name, tc := range map[string]struct {
		command string
		args    []string
		bar     string
		code    int
		last    string
	}{
		"download": {
			"shardcast-client",
			append(slow, "--version", "v1"), `^v1 +\d+% \[`, 130,
			`^shardcast-client: interrupted by SIGINT(; run the same command again to go on with the partial file)?$`,
		},
		"follow": {
			"shardcast-client",
			append([]string{"follow"}, slow...), `^v1 +\d+% \[`, 0,
			`^time=\S+ level=INFO msg=ended hint="run the same command again to go on"$`,
		},
		"broadcast": {
			"shardcast-origin",
			[]string{"broadcast", "-"},
			`^v1   -- \[`, 130,
			`^shardcast-origin: interrupted by SIGINT; nothing was published; run the same command again$`,
		},
	} {
		for _, width := range []int{40, 80, 120} {
			t.Run(fmt.Sprintf("%s on %d columns", name, width), func(t *testing.T) {
				t.Parallel()
				term := newTerminal(t, width)
				cmd := command(ctx, t, tc.command, tc.args...)
				_, err := cmd.StdinPipe() // which stays open, without a byte
				require.NoError(t, err)
				term.run(cmd)
				bar := term.await(tc.bar)
				assert.Len(t, bar, width-1, "the bar fills a row, and no more")
				_, err = term.keys.Write([]byte{3})
				require.NoError(t, err)
				_ = cmd.Wait() // its exit code says how
				<-term.closed

				assert.Equal(t, tc.code, exitCode(cmd.ProcessState))
				lines := term.lines()
				require.Greater(t, len(lines), 1)
				assert.Empty(t, lines[len(lines)-1], "the shell's prompt comes here")
				lines = lines[:len(lines)-1]
				assert.Regexp(t, tc.last, lines[len(lines)-1])
				for _, line := range lines {
					assert.Regexp(t, `^time=\S+ level=[A-Z]+ msg=|^`+tc.command+`: `, line)
					assert.NotContains(t, line, "^C")
				}
			})
		}
	}
}
