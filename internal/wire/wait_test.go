package wire_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/wire"
)

func TestPreferredWait(t *testing.T) {
	for field, want := range map[string]int{
		"wait=1":                           1,
		"wait=60":                          60,
		"wait=007":                         7,
		"wait=300":                         300,
		"wait=301":                         300,
		"wait=0":                           0,
		"WAIT=5":                           5,
		`wait="30"`:                        30,
		"wait = 5":                         5,
		"\twait\t=\t\"5\"\t":               5,
		"wait=5;foo=bar":                   5,
		"wait=5 ; foo":                     5,
		"respond-async, wait=5":            5,
		"respond-async,,wait=5,":           5,
		"wait=5, wait=9":                   5,
		`foo="a, wait=9", wait=5`:          5,
		`foo="a\", wait=9", wait=5`:        5,
		`foo; x="wait=9, ", wait=5`:        5,
		"wait=" + strings.Repeat("9", 999): 300,
		"wait=" + strings.Repeat("0", 999): 0,
		"wait=18446744073709551617":        300,
		// What says nothing.
		"":                       -1,
		",":                      -1,
		"=":                      -1,
		"=5":                     -1,
		"5":                      -1,
		"wait":                   -1,
		"wait=":                  -1,
		`wait=""`:                -1,
		`wait="`:                 -1,
		`wait="5`:                -1,
		`wait=5"`:                -1,
		"wait=-5":                -1,
		"wait=+5":                -1,
		"wait=5.5":               -1,
		"wait=5s":                -1,
		"wait=1 0":               -1,
		"wait=0x10":              -1,
		"wait=\xd9\xa5":          -1,
		"wait==5":                -1,
		"wait:5":                 -1,
		"await=5":                -1,
		"foo;wait=5":             -1,
		`foo="wait=5"`:           -1,
		`foo=", wait=5`:          -1,
		`foo="\`:                 -1,
		"wait=soon, wait=5":      -1,
		strings.Repeat(",", 999): -1,
		strings.Repeat(`"`, 999): -1,
	} {
		wait, ok := wire.PreferredWait([]string{field})
		if want < 0 {
			assert.False(t, ok, "%q", field)
			continue
		}
		assert.True(t, ok, "%q", field)
		assert.Equal(t, time.Duration(want)*time.Second, wait, "%q", field)
	}
	wait, ok := wire.PreferredWait([]string{"respond-async", `foo="`, "wait=5", "wait=6"})
	assert.True(t, ok)
	assert.Equal(t, 5*time.Second, wait)
	_, ok = wire.PreferredWait(nil)
	assert.False(t, ok)
}

func FuzzPreferredWait(f *testing.F) {
	f.Add(`foo="a, wait=9";x=y, wait="30"`)
	f.Add("wait=99999999999999999999")
	f.Fuzz(func(t *testing.T, field string) {
		wait, ok := wire.PreferredWait([]string{field})
		require.GreaterOrEqual(t, wait, time.Duration(0))
		require.LessOrEqual(t, wait, wire.MaxWait)
		if ok {
			again, ok := wire.PreferredWait([]string{wire.PreferWait(wait)})
			require.True(t, ok)
			require.Equal(t, wait, again)
		}
	})
}

func TestWaitApplied(t *testing.T) {
	for field, want := range map[string]bool{
		"wait=5": true, "WAIT=5": true, "respond-async, wait=5": true, " wait": true,
		wire.PreferWait(time.Minute): true,
		"":                           false, "respond-async": false, "await=5": false, `foo="wait=5"`: false,
	} {
		assert.Equal(t, want, wire.WaitApplied([]string{field}), "%q", field)
	}
	assert.True(t, wire.WaitApplied([]string{"respond-async", "wait=5"}))
	assert.False(t, wire.WaitApplied(nil))
}

func TestRetryAfter(t *testing.T) {
	for field, want := range map[string]time.Duration{
		"0": 0, "2": 2 * time.Second, "86400": 24 * time.Hour,
		"": time.Second, "-1": time.Second, "soon": time.Second, "1.5": time.Second,
		time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat): 0,
	} {
		assert.Equal(t, want, wire.RetryAfter(field), "%q", field)
	}
	at := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	assert.InDelta(t, time.Hour, wire.RetryAfter(at), float64(2*time.Second))
}
