package rank

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

// paced returns a pace of ticks: so many of so many bytes each.
func paced(ticks ...[2]int64) *Pace {
	p := new(Pace)
	for _, t := range ticks {
		for range t[0] {
			p.Add(t[1])
		}
	}
	return p
}

func TestPaceSpeedIsThatOfTheLastFiveSeconds(t *testing.T) {
	for name, tc := range map[string]struct {
		pace *Pace
		want float64
	}{
		"nothing yet":            {paced(), 0},
		"one tick":               {paced([2]int64{1, 1000}), 4000},
		"two ticks":              {paced([2]int64{1, 1000}, [2]int64{1, 0}), 2000},
		"twenty":                 {paced([2]int64{20, 1000}), 4000},
		"the ticks before those": {paced([2]int64{100, 1 << 40}, [2]int64{20, 1000}), 4000},
		"one of them is fast":    {paced([2]int64{1, 21000}, [2]int64{19, 1000}), 8000},
		"long after":             {paced([2]int64{10 * history, 5}, [2]int64{20, 1000}), 4000},
	} {
		t.Run(name, func(t *testing.T) { assert.InDelta(t, tc.want, tc.pace.Speed(), 1e-9) })
	}
}

func TestPaceLastSumsTheNewestTicks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ticks := rapid.SliceOfN(rapid.Int64Range(0, 1<<40), 0, 3*history).Draw(t, "ticks")
		n := rapid.IntRange(0, history).Draw(t, "n")
		p := new(Pace)
		for _, bytes := range ticks {
			p.Add(bytes)
		}
		var want int64
		for _, bytes := range ticks[max(0, len(ticks)-n):] {
			want += bytes
		}
		assert.Equal(t, want, p.Last(n))
	})
}

func TestPaceUsualIsTheMedianBeforeTheLastFiveSeconds(t *testing.T) {
	for name, tc := range map[string]struct {
		pace  *Pace
		want  float64
		known bool
	}{
		"nothing yet":         {paced(), 0, false},
		"too short by a tick": {paced([2]int64{39, 1000}), 0, false},
		"ten seconds":         {paced([2]int64{20, 1000}, [2]int64{20, 7}), 4000, true},
		"an even number": {
			paced([2]int64{10, 1000}, [2]int64{10, 3000}, [2]int64{20, 7}), 8000,
			true,
		},
		"bursts do not count": {
			paced([2]int64{11, 1000}, [2]int64{9, 1 << 40}, [2]int64{20, 7}), 4000,
			true,
		},
		"a minute ago is forgotten": {
			paced([2]int64{1000, 1 << 40}, [2]int64{220, 1000}, [2]int64{20, 7}), 4000,
			true,
		},
		"half of it a minute ago is not": {
			paced([2]int64{1000, 3000}, [2]int64{110, 1000}, [2]int64{20, 7}), 8000,
			true,
		},
		"and by one tick less than a half": {
			paced([2]int64{1000, 3000}, [2]int64{111, 1000}, [2]int64{20, 7}), 4000,
			true,
		},
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
func crawlsAt(p *Pace, bytes int64, others []float64, patience int) int {
	for i := 1; i <= 500; i++ {
		p.Add(bytes)
		if p.Crawls(append([]float64(nil), others...), patience) {
			return i
		}
	}
	return 0
}

func TestPaceCrawls(t *testing.T) {
	for name, tc := range map[string]struct {
		pace     *Pace
		bytes    int64 // a tick, from then on
		others   []float64
		patience int
		want     int // the tick from then on, 0 for never
	}{
		"a new one that brings nothing, alone": {paced(), 0, nil, 20, 0},
		"a new one that brings nothing":        {paced(), 0, []float64{4000}, 20, 20},
		"a new one, with double patience":      {paced(), 0, []float64{4000}, 40, 40},
		"a new one, with the most patience":    {paced(), 0, []float64{4000}, 320, 320},
		"less patience than five seconds":      {paced(), 0, []float64{4000}, 1, 20},
		"a tenth of its others":                {paced(), 100, []float64{4000}, 20, 0},
		"a byte a tick less":                   {paced(), 99, []float64{4000}, 20, 20},
		"the median of the others counts":      {paced(), 100, []float64{1, 2, 4000, 1 << 40, 1 << 40}, 20, 0},
		"that of an even number":               {paced(), 100, []float64{0, 3900, 4120, 1 << 40}, 20, 20},
		"most others crawl as well":            {paced(), 0, []float64{0, 0, 4000}, 20, 0},
		// below a tenth: fewer than two of the twenty
		"it stops, and has no others":             {paced([2]int64{40, 1000}), 0, nil, 20, 19},
		"it stops, and has others":                {paced([2]int64{40, 1000}), 0, []float64{4000}, 20, 19},
		"it stops, after a while of other others": {paced([2]int64{40, 1000}), 0, []float64{1}, 20, 19},
		"it stops young, and has no others":       {paced([2]int64{20, 1000}), 0, nil, 20, 20},
		"it stops after two and a half seconds":   {paced([2]int64{10, 1000}), 0, nil, 20, 30},
		// the usual speed is silence
		"it stops before":        {paced([2]int64{9, 1000}), 0, nil, 20, 0},
		"it falls to a tenth":    {paced([2]int64{40, 1000}), 100, nil, 20, 0},
		"it falls below a tenth": {paced([2]int64{40, 1000}), 99, nil, 20, 20},
		"with patience":          {paced([2]int64{40, 1000}), 0, nil, 80, 40},
		// silence is usual by then
		"patience that comes too late": {paced([2]int64{40, 1000}), 0, nil, 160, 0},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, crawlsAt(tc.pace, tc.bytes, tc.others, tc.patience))
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
		assert.InDelta(t, tc.want, Median(tc.values), 1e-12)
	}
}
