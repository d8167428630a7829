package fetch

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// paced returns a pace of ticks: so many of so many bytes each.
func paced(ticks ...[2]int64) *pace {
	p := new(pace)
	for _, t := range ticks {
		for range t[0] {
			p.add(t[1])
		}
	}
	return p
}

func TestPaceSpeedIsThatOfTheLastFiveSeconds(t *testing.T) {
	for name, tc := range map[string]struct {
		pace *pace
		want float64
	}{
		"nothing yet":           {paced(), 0},
		"one tick":              {paced([2]int64{1, 1000}), 4000},
		"two ticks":             {paced([2]int64{1, 1000}, [2]int64{1, 0}), 2000},
		"twenty":                {paced([2]int64{20, 1000}), 4000},
		"what was before those": {paced([2]int64{100, 1 << 40}, [2]int64{20, 1000}), 4000},
		"one of them is fast":   {paced([2]int64{1, 21000}, [2]int64{19, 1000}), 8000},
		"long after":            {paced([2]int64{10 * history, 5}, [2]int64{20, 1000}), 4000},
	} {
		t.Run(name, func(t *testing.T) { assert.InDelta(t, tc.want, tc.pace.speed(), 1e-9) })
	}
}

func TestPaceLastSumsTheNewestTicks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ticks := rapid.SliceOfN(rapid.Int64Range(0, 1<<40), 0, 3*history).Draw(t, "ticks")
		n := rapid.IntRange(0, history).Draw(t, "n")
		p := new(pace)
		for _, bytes := range ticks {
			p.add(bytes)
		}
		var want int64
		for _, bytes := range ticks[max(0, len(ticks)-n):] {
			want += bytes
		}
		assert.Equal(t, want, p.last(n))
	})
}

func TestPaceUsualIsTheMedianBeforeTheLastFiveSeconds(t *testing.T) {
	for name, tc := range map[string]struct {
		pace  *pace
		want  float64
		known bool
	}{
		"nothing yet":                      {paced(), 0, false},
		"too short by a tick":              {paced([2]int64{39, 1000}), 0, false},
		"ten seconds":                      {paced([2]int64{20, 1000}, [2]int64{20, 7}), 4000, true},
		"an even number":                   {paced([2]int64{10, 1000}, [2]int64{10, 3000}, [2]int64{20, 7}), 8000, true},
		"bursts do not count":              {paced([2]int64{11, 1000}, [2]int64{9, 1 << 40}, [2]int64{20, 7}), 4000, true},
		"what is a minute ago is forgot":   {paced([2]int64{1000, 1 << 40}, [2]int64{220, 1000}, [2]int64{20, 7}), 4000, true},
		"half of it a minute ago is not":   {paced([2]int64{1000, 3000}, [2]int64{110, 1000}, [2]int64{20, 7}), 8000, true},
		"and by one tick less than a half": {paced([2]int64{1000, 3000}, [2]int64{111, 1000}, [2]int64{20, 7}), 4000, true},
	} {
		t.Run(name, func(t *testing.T) {
			usual, known := tc.pace.usual()
			assert.Equal(t, tc.known, known)
			assert.InDelta(t, tc.want, usual, 1e-9)
		})
	}
}

// crawlsAt returns the tick at which p is found to crawl when so many bytes come in
// each from now on, counted from 1, and 0 if it is not in 500.
func crawlsAt(p *pace, bytes int64, peers []float64, patience int) int {
	for i := 1; i <= 500; i++ {
		p.add(bytes)
		if p.crawls(append([]float64(nil), peers...), patience) {
			return i
		}
	}
	return 0
}

func TestPaceCrawls(t *testing.T) {
	for name, tc := range map[string]struct {
		pace     *pace
		bytes    int64 // a tick, from then on
		peers    []float64
		patience int
		want     int // the tick from then on, 0 for never
	}{
		"a new one that brings nothing, alone":   {paced(), 0, nil, 20, 0},
		"a new one that brings nothing":          {paced(), 0, []float64{4000}, 20, 20},
		"a new one, with double patience":        {paced(), 0, []float64{4000}, 40, 40},
		"a new one, with the most patience":      {paced(), 0, []float64{4000}, 320, 320},
		"less patience than five seconds":        {paced(), 0, []float64{4000}, 1, 20},
		"a tenth of its peers":                   {paced(), 100, []float64{4000}, 20, 0},
		"a byte a tick less":                     {paced(), 99, []float64{4000}, 20, 20},
		"the median of the peers counts":         {paced(), 100, []float64{1, 2, 4000, 1 << 40, 1 << 40}, 20, 0},
		"that of an even number":                 {paced(), 100, []float64{0, 3900, 4120, 1 << 40}, 20, 20},
		"most peers crawl as well":               {paced(), 0, []float64{0, 0, 4000}, 20, 0},
		"it stops, and has no peers":             {paced([2]int64{40, 1000}), 0, nil, 20, 19}, // below a tenth: fewer than two of the twenty
		"it stops, and has peers":                {paced([2]int64{40, 1000}), 0, []float64{4000}, 20, 19},
		"it stops, after a while of other peers": {paced([2]int64{40, 1000}), 0, []float64{1}, 20, 19},
		"it stops young, and has no peers":       {paced([2]int64{20, 1000}), 0, nil, 20, 20},
		"it stops after two and a half seconds":  {paced([2]int64{10, 1000}), 0, nil, 20, 30},
		"it stops before":                        {paced([2]int64{9, 1000}), 0, nil, 20, 0}, // what is usual is silence
		"it falls to a tenth":                    {paced([2]int64{40, 1000}), 100, nil, 20, 0},
		"it falls below a tenth":                 {paced([2]int64{40, 1000}), 99, nil, 20, 20},
		"with patience":                          {paced([2]int64{40, 1000}), 0, nil, 80, 40},
		"patience that comes too late":           {paced([2]int64{40, 1000}), 0, nil, 160, 0}, // silence is usual by then
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, crawlsAt(tc.pace, tc.bytes, tc.peers, tc.patience))
		})
	}
}

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{5, 1}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 9, 2}, 3},
	} {
		assert.InDelta(t, tc.want, median(tc.values), 1e-12)
	}
}

// transferOf returns a transfer of a span with a pace, in a fetch of its own.
func transferOf(t *testing.T, opts Options, left int64, p *pace) *transfer {
	t.Helper()
	pool, u := offering(t, opts)
	f := &fetching{Pool: pool, entry: anEntry, transfers: make(map[*transfer]bool), changed: make(chan struct{})}
	f.tally = newTally(pool, anEntry, func(Progress) {})
	a := &arrival{fetching: f}
	s := a.add(0, left)
	tr := &transfer{span: s, upstream: u, to: left, pace: *p, cancel: func(error) {}}
	s.transfers = append(s.transfers, tr)
	f.transfers[tr] = true
	return tr
}

// deliveries are finished transfers from another upstream.
func deliveries(speeds ...float64) (ds []delivery) {
	for _, speed := range speeds {
		ds = append(ds, delivery{speed: speed})
	}
	return ds
}

// Where many transfers stall, it may be their upstream that does.
func TestATransferIsComparedWithOtherUpstreamsFirst(t *testing.T) {
	tr := transferOf(t, Options{Timeout: time.Hour}, 1<<30, paced([2]int64{20, 0}))
	for range 9 {
		tr.fetching.transfers[&transfer{span: tr.span, upstream: tr.upstream, pace: *paced([2]int64{20, 0})}] = true
	}
	require.NoError(t, tr.tooSlow(tr), "all are as slow")
	tr.ended = deliveries(1000)
	require.ErrorIs(t, tr.tooSlow(tr), errCrawl)
}

func TestPatienceWithASpanDoublesEachTimeItIsGivenUp(t *testing.T) {
	for crawls, want := range []int{20, 40, 80, 160, 320, 640, 640, 640} {
		tr := transferOf(t, Options{Timeout: time.Hour}, 1<<30, paced([2]int64{int64(want) - 2, 0}))
		tr.crawls = crawls
		tr.ended = deliveries(1 << 20)
		tr.pace.add(0)
		require.NoError(t, tr.tooSlow(tr), "%d crawls, a tick before", crawls)
		tr.pace.add(0)
		require.ErrorIs(t, tr.tooSlow(tr), errCrawl, "%d crawls", crawls)
		assert.Equal(t, crawls+1, tr.crawls)
	}
}

func TestATransferIsComparedWithTheOthersThatAreKnown(t *testing.T) {
	for name, tc := range map[string]struct {
		ended []float64
		peers []*pace
		want  bool
	}{
		"nobody":                  {nil, nil, false},
		"one that ended":          {[]float64{1000}, nil, true},
		"one that is too young":   {nil, []*pace{paced([2]int64{3, 1 << 30})}, false},
		"one that is just known":  {nil, []*pace{paced([2]int64{4, 1 << 30})}, true},
		"most are as slow":        {nil, []*pace{paced([2]int64{4, 1 << 30}), paced([2]int64{4, 0}), paced([2]int64{4, 0})}, false},
		"those that ended do not": {[]float64{1000, 1000, 1000}, []*pace{paced([2]int64{4, 0}), paced([2]int64{4, 0})}, true},
	} {
		t.Run(name, func(t *testing.T) {
			tr := transferOf(t, Options{Timeout: time.Hour}, 1<<30, paced([2]int64{20, 0}))
			tr.ended = deliveries(tc.ended...)
			for _, p := range tc.peers {
				tr.fetching.transfers[&transfer{span: tr.span, pace: *p}] = true
			}
			assert.Equal(t, tc.want, tr.tooSlow(tr) != nil)
		})
	}
}

func TestHelpTakesAShareOfWhatIsLeft(t *testing.T) {
	const speed = 4000. // of the transfer, in bytes per second
	for name, tc := range map[string]struct {
		left  int64
		rate  float64 // of who helps, 0 for not known
		want  int64   // bytes that are split off
		raced bool
	}{
		"equally fast":                  {1 << 20, speed, 1 << 19, false},
		"not known is equally fast":     {1 << 20, 0, 1 << 19, false},
		"three times as fast":           {1 << 20, 3 * speed, 3 << 18, false},
		"a third as fast":               {1 << 20, speed / 3, 1 << 18, false},
		"very much faster leaves 64 Ki": {1 << 20, 1e12, 1<<20 - minSplit, false},
		"exactly two times the least":   {2 * minSplit, speed, minSplit, false},
		"a byte less":                   {2*minSplit - 1, speed, 0, false},
		"a byte less, but fast":         {2*minSplit - 1, 2*speed + 1, 0, true},
		"and just not fast":             {2*minSplit - 1, 2 * speed, 0, false},
		"all is split before it raced":  {2 * minSplit, 1e12, minSplit, false},
		"one byte":                      {1, 1e12, 0, true},
		"a slow one's share is too low": {1 << 20, speed / 15.1, 0, false},
		"and here it is just enough":    {1 << 20, speed / 14.9, 65948, false},
	} {
		t.Run(name, func(t *testing.T) {
			tr := transferOf(t, Options{}, tc.left, paced([2]int64{20, 1000}))
			tr.manifest.Size = 1 << 30
			if tc.rate > 0 {
				tr.rank.estimates[0].throughput, tr.rank.estimates[0].sampled = tc.rate, time.Now()
			}
			s, u := tr.helpWith(tr)
			switch {
			case tc.raced:
				assert.Same(t, tr.span, s)
				assert.Equal(t, tc.left, tr.tally.raced)
				assert.Equal(t, 1, tr.pending)
			case tc.want == 0:
				assert.Nil(t, s)
				assert.Equal(t, 1, tr.pending)
			default:
				require.NotNil(t, s)
				assert.InDelta(t, tc.want, s.to-s.at, 1)
				assert.Equal(t, tc.left, s.to)
				assert.Equal(t, s.at, tr.span.to, "what one does not bring, the other does")
				assert.Equal(t, 2, tr.pending)
				assert.Zero(t, tr.tally.raced)
			}
			assert.Equal(t, s != nil, u != nil)
		})
	}
}

func TestRacesBringNoMoreThanATwentiethTwice(t *testing.T) {
	tr := transferOf(t, Options{}, 50_000, paced([2]int64{20, 1}))
	tr.manifest.Size = 2_000_000
	tr.rank.estimates[0].throughput, tr.rank.estimates[0].sampled = 1e9, time.Now()
	for range 2 {
		s, _ := tr.helpWith(tr)
		assert.NotNil(t, s)
	}
	s, _ := tr.helpWith(tr)
	assert.Nil(t, s, "a third race would bring 150 kB of 2 MB twice")
	assert.Equal(t, int64(100_000), tr.tally.raced)
}

func TestHelpIsNotGiven(t *testing.T) {
	for name, change := range map[string]func(tr *transfer){
		"to who is raced already":         func(tr *transfer) { tr.transfers = append(tr.transfers, tr) },
		"where one has to bring it all":   func(tr *transfer) { tr.alone = true },
		"where nothing is left":           func(tr *transfer) { tr.at = tr.span.to },
		"by who does not know ranges":     func(tr *transfer) { tr.upstream.rangeless = true },
		"by who is not asked again":       func(tr *transfer) { tr.refused.add(tr.upstream, errSilent) },
		"by who does not have it":         func(tr *transfer) { tr.upstream.offered = nil },
		"by who is busy":                  func(tr *transfer) { tr.putOff(tr.upstream, busy{error: errSilent, wait: time.Second}) },
		"to who is not known":             func(tr *transfer) { tr.pace = *paced([2]int64{1, 1000}) },
		"to who is done in half a second": func(tr *transfer) { tr.pace = *paced([2]int64{20, 1<<19 + 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			tr := transferOf(t, Options{}, 1<<20, paced([2]int64{2, 1000}))
			s, _ := tr.help()
			require.NotNil(t, s)
			tr = transferOf(t, Options{}, 1<<20, paced([2]int64{2, 1000}))
			change(tr)
			s, _ = tr.help()
			assert.Nil(t, s)
		})
	}
}

// An upstream that is idle gets a transfer of one that has several, unless that would
// be for nothing.
func TestWhatIsMovedToAnIdleUpstream(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(tr *transfer, idle *upstream)
		moved  bool
	}{
		"what takes long":            {func(*transfer, *upstream) {}, true},
		"not what one brings alone":  {func(tr *transfer, _ *upstream) { tr.alone = true }, false},
		"not what does not last":     {func(tr *transfer, _ *upstream) { tr.at = tr.span.to - 1000 }, false},
		"not what has just begun":    {func(tr *transfer, _ *upstream) { tr.pace = *paced([2]int64{spreadAfter - 1, 1000}) }, false},
		"not what is given up":       {func(tr *transfer, _ *upstream) { tr.given = true }, false},
		"not while workers rest":     {func(tr *transfer, _ *upstream) { tr.resting = 1 }, false},
		"not to who knows no ranges": {func(_ *transfer, idle *upstream) { idle.rangeless = true }, false},
		"not to who lacks it":        {func(_ *transfer, idle *upstream) { idle.offered = nil }, false},
		"not to who is not idle":     {func(_ *transfer, idle *upstream) { idle.transfers = 1 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			tr := transferOf(t, Options{}, 1<<20, paced([2]int64{spreadAfter, 1000}))
			from, idle := tr.upstream, &upstream{index: 1, name: "idle", offered: tr.upstream.offered}
			tr.upstreams = append(tr.upstreams, idle)
			tr.rank = NewRanking(2, time.Now, func() float64 { return 0 })
			from.transfers = 2
			tr.fetching.transfers[&transfer{span: tr.span, upstream: from, given: true}] = true
			var why error
			tr.cancel = func(err error) { why = err }
			tc.change(tr, idle)
			tr.spread()
			if tc.moved {
				assert.Equal(t, move{idle}, why)
			} else {
				assert.NoError(t, why)
			}
		})
	}
}

func TestParseContentRange(t *testing.T) {
	for text, want := range map[string][2]int64{
		"bytes 5-9/20": {5, 20},
		"bytes 0-0/1":  {0, 1},
		"bytes 5-9/*":  {5, -1},
		"bytes 0-9223372036854775806/9223372036854775807": {0, 9223372036854775807},
	} {
		from, size, err := parseContentRange(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, [2]int64{from, size}, text)
	}
	for _, text := range []string{
		"", "bytes", "bytes ", "bytes */20", "bytes -9/20", "bytes 5-9", "bytes 5-9/", "bytes x-9/20", "bytes 5-9/x",
		"bytes -5-9/20", "bytes 99999999999999999999-9/20", "bytes 5-9/99999999999999999999", "kilobytes 5-9/20", "bytes=5-9/20",
		"bytes 5-9/20/20", "bytes  5-9/20",
	} {
		_, _, err := parseContentRange(text)
		require.ErrorContains(t, err, "cannot be read", text)
		assert.Less(t, len(err.Error()), 200)
	}
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for text, want := range map[string]time.Duration{
			"0":                      0,
			"7":                      7 * time.Second,
			"007":                    7 * time.Second,
			"60":                     time.Minute,
			"61":                     61 * time.Second,
			"4294967295":             10 * time.Minute,
			"4294967296":             time.Second, // nonsense
			"99999999999999999999":   time.Second,
			"-1":                     time.Second,
			"1.5":                    time.Second,
			"soon":                   time.Second,
			"1e3":                    time.Second,
			"Fri, 99 Foo 2000 0:0:0": time.Second,
			time.Now().Add(9 * time.Second).UTC().Format(http.TimeFormat):            9 * time.Second,
			time.Now().Add(time.Hour).UTC().Format(http.TimeFormat):                  10 * time.Minute,
			time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat):                 0,
			time.Now().Add(9 * time.Second).UTC().Format(time.RFC850):                9 * time.Second,
			time.Now().Add(200 * 365 * 24 * time.Hour).UTC().Format(http.TimeFormat): 10 * time.Minute,
			"Fri, 31 Dec 9999 23:59:59 GMT":                                          10 * time.Minute,
			"Mon, 01 Jan 0001 00:00:00 GMT":                                          0,
		} {
			assert.Equal(t, want, retryAfter(text), text)
		}
	})
}
