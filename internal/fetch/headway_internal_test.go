package fetch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestAFetchStallsWhenItBringsNextToNothing(t *testing.T) {
	const second = time.Second
	at := func(elapsed time.Duration, size, done int64) Progress {
		return Progress{Elapsed: elapsed, Size: size, Done: done, Received: done}
	}
	for name, tc := range map[string]struct {
		reports []Progress
		want    bool
	}{
		"no report":                {nil, false},
		"no manifest, for a while": {[]Progress{at(0, -1, 0), at(29*second, -1, 0)}, false},
		"no manifest":              {[]Progress{at(0, -1, 0), at(30*second, -1, 0)}, true},
		"a manifest at last":       {[]Progress{at(0, -1, 0), at(30*second, -1, 0), at(31*second, 1e9, 1)}, false},
		"drips":                    {[]Progress{at(0, 1e6, 0), at(30*second, 1e6, 6000)}, true},
		"gets on":                  {[]Progress{at(0, 1e6, 0), at(30*second, 1e6, 500_000)}, false},
		"would take days":          {[]Progress{at(0, 1e12, 0), at(30*second, 1e12, 1e8)}, true},
		"would take hours":         {[]Progress{at(0, 1e12, 0), at(30*second, 1e12, 1e9)}, false},
		"gets on again":            {[]Progress{at(0, 1e6, 0), at(30*second, 1e6, 1), at(60*second, 1e6, 9e5)}, false},
		"got on before": {
			[]Progress{at(0, 1e6, 0), at(30*second, 1e6, 9e5), at(60*second, 1e6, 9e5+1)}, true,
		},
		"all is here":               {[]Progress{at(0, 1e6, 1e6), at(90*second, 1e6, 1e6)}, false},
		"an empty file":             {[]Progress{at(0, 0, 0), at(90*second, 0, 0)}, false},
		"what was here is verified": {[]Progress{at(0, 1e9, 0), {Elapsed: 30 * second, Size: 1e9, Done: 9e8}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var h Headway
			for _, r := range tc.reports {
				h.note(r, DefaultPatience)
			}
			assert.Equal(t, tc.want, h.Stalled())
		})
	}
}
