package backoff_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/backoff"
)

// assertAbout says that got is want, up to a quarter more or less.
func assertAbout(t *testing.T, want, got time.Duration) {
	t.Helper()
	assert.InDelta(t, want, got, float64(want)/4)
}

func TestWaitsDoubleUpToTheMost(t *testing.T) {
	for name, tc := range map[string]struct {
		doubling backoff.Doubling
		want     []time.Duration
	}{
		"doubling":         {backoff.Doubling{First: time.Second, Most: 8 * time.Second}, []time.Duration{1e9, 2e9, 4e9, 8e9, 8e9, 8e9}},
		"odd most":         {backoff.Doubling{First: time.Second, Most: 5 * time.Second}, []time.Duration{1e9, 2e9, 4e9, 5e9, 5e9}},
		"nothing to grow":  {backoff.Doubling{First: time.Second, Most: time.Second}, []time.Duration{1e9, 1e9}},
		"less than first":  {backoff.Doubling{First: time.Second}, []time.Duration{1e9, 1e9}},
		"zero":             {backoff.Doubling{}, []time.Duration{0, 0}},
		"close to the end": {backoff.Doubling{First: math.MaxInt64 / 3, Most: math.MaxInt64 / 2}, []time.Duration{math.MaxInt64 / 3, math.MaxInt64 / 2, math.MaxInt64 / 2}},
	} {
		t.Run(name, func(t *testing.T) {
			for i, want := range tc.want {
				assert.Equal(t, i, tc.doubling.Failures())
				assertAbout(t, want, tc.doubling.Next())
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
