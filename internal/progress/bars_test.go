package progress

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast"
)

// halfway is a download with an upstream in each state.
func halfway() shardcast.Progress {
	return shardcast.Progress{
		Version: "v7", Size: 1_100_000_000, Done: 550_000_000, Resumed: 110_000_000, Received: 500_000_000,
		Wasted: 1_200_000, Elapsed: 4 * time.Second, Speed: 129e6,
		Upstreams: []shardcast.Upstream{
			{URL: "http://192.168.1.100:8000", State: "sending", Transfers: 6, Received: 350_000_000, Speed: 90e6},
			{URL: "http://192.168.1.101:8000", State: "busy", Received: 148_800_000, Speed: 39e6},
			{URL: "https://relay.example/cast", State: "refused", Err: "shard 3: wrong digest", Received: 1_200_000},
			{URL: "http://192.168.1.103:8000", State: "failing", Err: "connection refused"},
		},
	}
}

// drawn waits until all earlier updates and lines are drawn. It passes the
// time of a synctest bubble.
func drawn() {
	<-time.After(2 * refresh)
	synctest.Wait()
}

// drawing returns the text of p on a terminal.
func drawing(t *testing.T, p shardcast.Progress, width, height int) (text string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, width, height)
		d := displayOn(s, s)
		d.Update()(p)
		drawn()
		text = s.text()
		d.Failed(errors.New("over"))
		assert.Empty(t, s.text(), "the bars are gone")
	})
	return text
}

func TestBarsFillTheRoomOnALine(t *testing.T) {
	for width, want := range map[int]string{
		100: `
v7  50% [+++++===================>-------------------------]  550 MB/1.1 GB  129 MB/s       5s left
  70%   90 MB/s sending http://192.168.1.100:8000
  29%   39 MB/s busy    http://192.168.1.101:8000
   0%     0 B/s refused https://relay.example/cast: shard 3: wrong digest
   0%     0 B/s failing http://192.168.1.103:8000: connection refused`,
		60: `
v7  50% [+===>-----]  550 MB/1.1 GB  129 MB/s       5s left
  70%   90 MB/s sending http://192.168.1.100:8000
  29%   39 MB/s busy    http://192.168.1.101:8000
   0%     0 B/s refused https://relay.example/cast: shar...
   0%     0 B/s failing http://192.168.1.103:8000: conne...`,
		40: `
v7  50% [++=====>-------]       5s left
  70% http://192.168.1.100:8000
  29% http://192.168.1.101:8000
   0% https://relay.example/cast: sh...
   0% http://192.168.1.103:8000: con...`,
		20: `
v7  50% [+==>----] 
  70% http://192...
  29% http://192...
   0% https://re...
   0% http://192...`,
	} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			assert.Equal(t, strings.TrimPrefix(want, "\n"), drawing(t, halfway(), width, 24))
		})
	}
}

func TestBarsNeverWrap(t *testing.T) {
	p := halfway()
	p.Version = "v999999999999999999"
	p.Upstreams[0].URL = "http://" + strings.Repeat("long.", 100) + "example"
	p.Upstreams[2].Err = strings.Repeat("reason ", 100)
	for width := 1; width < 130; width++ {
		for _, line := range strings.Split(drawing(t, p, width, 24), "\n") {
			assert.LessOrEqual(t, len(line), max(width-1, 1), "on %d columns: %s", width, line)
		}
	}
}

func TestBarsLeaveOutUnknownNumbers(t *testing.T) {
	for name, tc := range map[string]struct {
		progress shardcast.Progress
		want     string
	}{
		"the size": {
			shardcast.Progress{Version: "v1", Size: -1},
			"v1   -- [---------------]     0 B/?     0 B/s       -- left",
		},
		"everything": {shardcast.Progress{}, "   0% [---------------]     0 B/0 B     0 B/s       -- left"},
		"a bad speed": {
			shardcast.Progress{Version: "v1", Size: 10, Done: 20, Speed: -1},
			"v1 100% [============]    20 B/10 B     0 B/s       -- left",
		},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, drawing(t, tc.progress, 60, 24)) })
	}
}

func TestBarsSayWhatIsDoneWhenNothingComes(t *testing.T) {
	for phase, want := range map[string]string{
		"fetching":  "   0s left",
		"verifying": "verifying",
		"syncing":   "  syncing",
		"writing":   "  writing",
		"waiting":   "  waiting",
	} {
		p := shardcast.Progress{Version: "v7", Phase: phase, Size: 1000, Done: 1000, Speed: 500}
		assert.Regexp(t, `^v7 100% \[=+\] +`+want+"$", drawing(t, p, 40, 24))
	}
}

func TestBarsKeepToTheHeight(t *testing.T) {
	for height, want := range map[int][]string{
		6: {"v7", "  70%", "  29%", "   0%", "   0%"},
		5: {"v7", "  70%", "  29%", "      and 2 more"},
		3: {"v7", "      and 4 more"},
		2: {"v7"},
		1: {"v7"},
		0: {"v7", "  70%", "  29%", "   0%", "   0%"}, // a terminal without a size
	} {
		t.Run(fmt.Sprint(height), func(t *testing.T) {
			lines := strings.Split(drawing(t, halfway(), 80, height), "\n")
			require.Len(t, lines, len(want))
			for i, start := range want {
				assert.True(t, strings.HasPrefix(lines[i], start), lines[i])
			}
		})
	}
}

func TestBarsFollowTheTerminalAndTheDownload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, 60, 24)
		d := displayOn(s, s)
		p := halfway()
		d.Update()(p)
		drawn()
		s.resize(100, 24)
		p.Done = p.Size
		p.Upstreams[0].State = "idle" // in the array of an earlier update
		d.Update()(p)
		drawn()
		assert.Contains(t, s.text(), "v7 100% [+++++=============================================]  1.1 GB/1.1 GB")
		assert.Contains(t, s.text(), "idle    http://192.168.1.100:8000")

		p.Done -= 50_000_000 // the last shard was wrong
		d.Update()(p)
		s.resize(20, 3)
		drawn()
		assert.Equal(t, "v7  95% [+======>]\n      and 4 more", strings.ReplaceAll(s.text(), " \n", "\n"))
		d.Done(shardcast.Result{}, false)
		assert.Empty(t, s.text())
	})
}

func TestBarsEscapeTextFromTheNetwork(t *testing.T) {
	p := halfway()
	p.Upstreams = p.Upstreams[2:3]
	p.Upstreams[0].URL = "http://a/\x1b[2J\u009b2J\u202e\x7f"
	p.Upstreams[0].Err = "it says \"\r\nv1: fine\t\"\x00\xff 日本"
	assert.Contains(t, drawing(t, p, 200, 24), // where the screen would fail, too
		`http://a/\x1b[2J\u009b2J\u202e\x7f: it says "\r\nv1: fine\t"\x00\ufffd \u65e5\u672c`)
}

func TestBarsAreDrawnFiveTimesASecondDespiteMoreUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, 80, 24)
		d := displayOn(s, s)
		d.Update()(halfway())
		for range 1000 {
			<-time.After(10 * time.Millisecond)
			d.Update()(halfway())
		}
		synctest.Wait()
		s.mu.Lock()
		assert.InDelta(t, 50, s.writes, 1)
		s.mu.Unlock()
		d.Failed(errors.New("over"))
	})
}

func TestLogLinesStandAboveTheBars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, 60, 24)
		d := displayOn(s, s)
		write := func(line string) {
			n, err := d.Write([]byte(line))
			require.NoError(t, err)
			assert.Len(t, line, n)
		}
		write("before\n")
		assert.Equal(t, "before", s.text())
		d.Update()(halfway())
		drawn()
		write("first, and a line much longer than the terminal is wide, which stays whole\n")
		write("second\n")
		drawn()
		assert.True(t, strings.HasPrefix(
			s.text(),
			"before\nfirst, and a line much longer than the terminal is wide, which stays whole\nsecond\nv7  50%",
		), s.text())
		write("last\n") // and no time to draw it
		d.Done(shardcast.Result{}, false)
		write("after\n")
		assert.Equal(
			t,
			"before\nfirst, and a line much longer than the terminal is wide, which stays whole\nsecond\nlast\nafter",
			s.text(),
		)
	})
}

func TestNoLogLineIsLostWhenTheBarsEnd(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) { // whose second the end may take is no second of a busy machine
			s := newScreen(t, 60, 24)
			d := displayOn(s, s)
			var writers sync.WaitGroup
			for range 4 {
				writers.Go(func() {
					for range 50 {
						_, err := d.Write([]byte("line\n"))
						assert.NoError(t, err)
					}
				})
			}
			d.Update()(halfway())
			d.Failed(errors.New("interrupted"))
			writers.Wait()
			assert.Equal(t, strings.TrimSuffix(strings.Repeat("line\n", 200), "\n"), s.text())
		})
	}
}

func TestBarsOfADownloadThatNeverBeganLeaveNothing(t *testing.T) {
	s := newScreen(t, 60, 24)
	displayOn(s, s).Failed(errors.New("no such version"))
	assert.Zero(t, s.writes)
}

func TestALostTerminalDelaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		s := newScreen(t, 60, 24)
		d := displayOn(s, &log)
		d.Update()(halfway())
		drawn()
		s.hangUp()
		drawn()
		d.Update()(halfway())
		_, err := d.Write([]byte("still logged\n"))
		require.NoError(t, err)
		d.Failed(errors.New("over"))
		assert.Equal(t, "still logged\n", log.String())
	})
}
