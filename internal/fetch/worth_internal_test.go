package fetch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestDeltasAreWorthIt(t *testing.T) {
	const gb = 1e9
	for name, tc := range map[string]struct {
		trade  trade
		size   int64
		deltas int
		want   bool
	}{
		"half of what is missing":           {trade{10 * gb, 0, 2}, 5 * gb, 1, true},
		"more than that":                    {trade{10 * gb, 0, 2}, 5*gb + 1, 1, false},
		"nothing is missing":                {trade{0, 0, 2}, 1, 1, false},
		"a link of 1 Gbit/s":                {trade{10 * gb, 0.125 * gb, 1}, 0.1 * gb, 1, true},
		"the same, and half":                {trade{10 * gb, 0.125 * gb, 1}, 5 * gb, 1, true},
		"a link of 10 Gbit/s, two cores":    {trade{10 * gb, 1.25 * gb, 2}, 0.1 * gb, 1, true},
		"a link of 10 Gbit/s, one core":     {trade{10 * gb, 1.25 * gb, 1}, 0.1 * gb, 1, false},
		"as fast as decoding":               {trade{10 * gb, 1.5 * gb, 2}, 0.1 * gb, 1, false},
		"a link of 25 Gbit/s, 64 cores":     {trade{10 * gb, 3.1 * gb, 64}, 0.1 * gb, 1, false},
		"three deltas, 1 Gbit/s":            {trade{10 * gb, 0.125 * gb, 2}, 0.3 * gb, 3, true},
		"three deltas, 10 Gbit/s":           {trade{10 * gb, 1.25 * gb, 2}, 0.3 * gb, 3, false},
		"eight deltas, 1 Gbit/s":            {trade{10 * gb, 0.125 * gb, 2}, 0.8 * gb, 8, true},
		"eight deltas, link of 2.5 Gbit/s":  {trade{10 * gb, 0.3125 * gb, 2}, 0.8 * gb, 8, false},
		"a small rest, over a fast network": {trade{0.1 * gb, 3 * gb, 2}, 1, 1, false},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, tc.trade.pays(tc.size, tc.deltas)) })
	}
}

func TestOnlyAFetchInFullMeasures(t *testing.T) {
	var m measure
	assert.Zero(t, m.trade(1).speed)
	m.note(Progress{Received: leastMeasured, Elapsed: 2 * time.Second})
	assert.InDelta(t, leastMeasured/2, m.trade(1).speed, 1)
	for name, end := range map[string]Progress{
		"by a delta":              {Received: leastMeasured, Rebuilt: 1, Elapsed: time.Second},
		"of few bytes":            {Received: leastMeasured - 1, Elapsed: time.Second},
		"with a delta beside it":  {Received: leastMeasured + 9, Delta: 10, Elapsed: time.Second},
		"of what was there":       {Resumed: 10 * leastMeasured, Elapsed: time.Second},
		"within the clock's tick": {Received: leastMeasured - 1},
	} {
		m.note(end)
		assert.InDelta(t, leastMeasured/2, m.trade(1).speed, 1, name)
	}
	m.note(Progress{Received: leastMeasured})
	assert.InDelta(t, leastMeasured*1000, m.trade(1).speed, 1, "no time at all is a millisecond")
}
