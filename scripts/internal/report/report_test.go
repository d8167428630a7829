package report_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/scripts/internal/report"
)

func TestBaseIsComparedByMediansAndRanges(t *testing.T) {
	base := []float64{1.0, 1.1, 1.2}
	for name, tc := range map[string]struct {
		now  []float64
		more bool
		want string
	}{
		"the same":                   {base, false, "| 1.000 |  |"},
		"slower":                     {[]float64{2.1, 2.2, 2.3}, false, "| 2.000 | **worse** |"},
		"slower, but ranges overlap": {[]float64{1.15, 2.2, 2.3}, false, "| 2.000 |  |"},
		"slower, but by little":      {[]float64{1.14, 1.15, 1.16}, false, "| 1.045 |  |"},
		"faster":                     {[]float64{0.5, 0.55, 0.6}, false, "| 0.500 | better |"},
		"slower in two rounds":       {[]float64{2.1, 2.3}, false, "| 2.000 |  |"},
		"less throughput":            {[]float64{0.5, 0.55, 0.6}, true, "| 2.000 | **worse** |"},
	} {
		t.Run(name, func(t *testing.T) {
			var b report.Base
			b.Add("a|b", base, tc.now, 2, tc.more)
			assert.Contains(t, b.String(), tc.want)
			assert.Contains(t, b.String(), `| a\|b | 1.10 (1.00 to 1.20) |`)
		})
	}
	var none report.Base
	none.Add("nothing", base, nil, 2, false)
	assert.Empty(t, none.String())
}
