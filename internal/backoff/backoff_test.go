package backoff_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/backoff"
)

// assertAbout asserts that got is want, up to a quarter more or less.
func assertAbout(t *testing.T, want, got time.Duration) {
	t.Helper()
	assert.InDelta(t, want, got, float64(want)/4)
}

func TestWaitsDoubleUpToTheMost(t *testing.T) {
	const s = time.Second
	const third, half time.Duration = math.MaxInt64 / 3, math.MaxInt64 / 2
	for name, tc := range map[string]struct {
		first, most time.Duration
		want        []time.Duration
	}{
		"doubling":         {s, 8 * s, []time.Duration{s, 2 * s, 4 * s, 8 * s, 8 * s, 8 * s}},
		"odd most":         {s, 5 * s, []time.Duration{s, 2 * s, 4 * s, 5 * s, 5 * s}},
		"nothing to grow":  {s, s, []time.Duration{s, s}},
		"less than first":  {s, 0, []time.Duration{s, s}},
		"zero":             {0, 0, []time.Duration{0, 0}},
		"close to the end": {third, half, []time.Duration{third, half, half}},
	} {
		t.Run(name, func(t *testing.T) {
			d := backoff.Doubling{First: tc.first, Most: tc.most}
			for i, want := range tc.want {
				assert.Equal(t, i, d.Failures())
				assertAbout(t, want, d.Next())
			}
		})
	}
}

func TestWaitsBeginAgainAfterASuccess(t *testing.T) {
	d := backoff.Doubling{First: time.Second, Most: time.Minute}
	d.Next()
	d.Next()
	d.Reset()
	assert.Zero(t, d.Failures())
	assertAbout(t, time.Second, d.Next())
	assertAbout(t, 2*time.Second, d.Next())
}

func TestEqualWaitsDiffer(t *testing.T) {
	shortest, longest := time.Hour, time.Duration(0)
	for range 1000 {
		wait := backoff.Jitter(time.Second)
		assertAbout(t, time.Second, wait)
		shortest, longest = min(shortest, wait), max(longest, wait)
	}
	assert.Less(t, shortest, 800*time.Millisecond)
	assert.Greater(t, longest, 1200*time.Millisecond)
}
