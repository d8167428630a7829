package transfer

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/shard"
)

func TestPhaseIsVerifyingOnlyWhileNothingComes(t *testing.T) {
	for name, tc := range map[string]struct {
		size, done int64
		transfers  int // in flight
		checking   bool
		want       string
	}{
		"nothing is known":                    {-1, 0, 0, false, Fetching},
		"a file of that name is compared":     {-1, 0, 0, true, Verifying},
		"bytes come":                          {100, 50, 1, false, Fetching},
		"bytes come beside":                   {100, 50, 1, true, Fetching},
		"bytes of an earlier one are checked": {100, 50, 0, true, Verifying},
		"a server is waited for":              {100, 50, 0, false, Fetching},
		"all has come":                        {100, 100, 0, false, Verifying},
		"all has come, and some twice":        {100, 100, 1, true, Verifying},
		"there is nothing to come":            {0, 0, 0, false, Verifying},
	} {
		t.Run(name, func(t *testing.T) {
			states := func() []State { return []State{{}, {Upstream: Upstream{Transfers: tc.transfers}}} }
			var reports []Progress
			tally := NewTally(shard.Version(1), nil, nil, states, func(p Progress) { reports = append(reports, p) })
			if tc.size >= 0 {
				tally.begin(tc.size)
			}
			tally.found(tc.done)
			if tc.checking {
				defer tally.Checks()()
			}
			tally.End(false)
			assert.Equal(t, tc.want, reports[0].Phase)
			assert.Empty(t, tally.End(true).Phase, "it is over")
			assert.Equal(t, Syncing, reports[1].Phase, "its caller syncs")
		})
	}
}
