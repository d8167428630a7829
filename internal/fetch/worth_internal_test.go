package fetch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

func TestADeltaMayTakeTwiceAsLongAsTheVersion(t *testing.T) {
	assert.Equal(t, deltaPatience+20*time.Second, trade{10e9, 1e9, 2}.patience())
	assert.Negative(t, trade{10e9, 0, 2}.patience(), "it is not known how long that is")
}

func TestADeltaThatDripsOrIsSilentIsGivenUp(t *testing.T) {
	for name, tc := range map[string]struct {
		each  int64 // bytes between two looks
		most  time.Duration
		cause error
		after time.Duration
	}{
		"silent":                   {0, time.Hour, errSilent, deltaPatience},
		"drips, and it is known":   {1, time.Minute, errSlow, time.Minute + deltaPatience},
		"drips, and it is unknown": {1, -1, context.DeadlineExceeded, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				ctx, stop := context.WithCancelCause(ctx)
				begun, came := time.Now(), int64(0)
				watchDelta(ctx, func() int64 { came += tc.each; return came }, tc.most, stop)
				require.ErrorIs(t, context.Cause(ctx), tc.cause)
				assert.Equal(t, tc.after, time.Since(begun))
			})
		})
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
