package fetch

import (
	"context"
	"errors"
	"net"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func idlePool(t *testing.T, opts Options) *Pool {
	t.Helper()
	opts.Upstreams = []*url.URL{{Scheme: "http", Host: "upstream.invalid"}}
	p, err := New(opts)
	require.NoError(t, err)
	return p
}

func TestPauseIsFastAtFirstAndThenSlow(t *testing.T) {
	for name, tc := range map[string]struct {
		opts    Options
		attempt int
		want    time.Duration
	}{
		"the first":          {Options{}, 1, DefaultFastWait},
		"the last fast one":  {Options{}, DefaultFastAttempts, DefaultFastWait},
		"the first slow one": {Options{}, DefaultFastAttempts + 1, DefaultSlowWait},
		"the hundredth":      {Options{}, 100, DefaultSlowWait},
		"fast, as told":      {Options{FastAttempts: 5, FastWait: 7 * time.Second}, 5, 7 * time.Second},
		"slow, as told":      {Options{FastAttempts: 5, SlowWait: 9 * time.Minute}, 6, 9 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := idlePool(t, tc.opts)
				different := make(map[time.Duration]bool)
				for range 20 {
					start := time.Now()
					require.NoError(t, p.pause(t.Context(), tc.attempt, errors.New("no luck")))
					waited := time.Since(start)
					assert.InDelta(t, tc.want, waited, float64(tc.want)/4)
					different[waited] = true
				}
				assert.Greater(t, len(different), 1, "those who failed together come back together")
			})
		})
	}
}

func TestPauseEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := idlePool(t, Options{})
		enough := errors.New("had enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, enough)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, p.pause(ctx, 1, errors.New("no luck")), enough)
		assert.Equal(t, time.Second, time.Since(start))
	})
}

func TestWhatGetsSomewhereBeginsTheAttemptsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := offering(t, Options{Attempts: 3})
		p.SetDial(func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no network") })
		failed := errors.New("broke off")
		outcomes := []error{failed, failed, moved{failed}, failed, failed, moved{failed}, moved{failed}, failed, failed, failed, nil}
		tried := 0
		err := p.retry(t.Context(), quest{entry: anEntry, refused: new(refusals), try: func(*upstream) error {
			tried++
			return outcomes[tried-1]
		}})
		require.ErrorIs(t, err, failed)
		assert.Equal(t, len(outcomes)-1, tried, "three that get nowhere, one after the other, are the end")
	})
}
