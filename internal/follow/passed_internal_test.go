package follow

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

func entriesOf(numbers ...shard.Version) (entries []distfile.Entry) {
	for _, v := range numbers {
		entries = append(entries, distfile.Entry{Version: v, Digest: shard.Digest{byte(v)}})
	}
	return entries
}

func TestVersionsThatNeverComeAreToldOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		last, from shard.Version
		first      []distfile.Entry // the offers of the first choice
		want       string
	}{
		"of a new directory those that came later": {first: entriesOf(1, 2, 3), want: "[v4 newer v6 retired]"},
		"of one with versions those that came since": {
			last: 1, first: entriesOf(1, 2, 3), want: "[v2 newer v3 newer v4 newer v6 retired]",
		},
		"from one on": {from: 3, first: entriesOf(1, 2, 3), want: "[v3 newer v4 newer v6 retired]"},
	} {
		t.Run(name, func(t *testing.T) {
			told := []string{}
			p := passed{tell: func(e distfile.Entry, why error) {
				word := "newer"
				if why != ErrNewer { //nolint:errorlint // it is not wrapped
					require.ErrorIs(t, why, fetch.ErrNoVersion)
					word = "retired"
				}
				told = append(told, fmt.Sprint(e.Version, " ", word))
			}}
			p.start(tc.last, tc.from, tc.first)
			p.see(tc.first)
			if tc.last+tc.from == 0 {
				p.delivered(entriesOf(3)[0], tc.first)
			}
			assert.Empty(t, told)
			p.see(entriesOf(2, 3, 4, 5, 6, 7, 8))
			p.failed(entriesOf(5)[0])
			offers := entriesOf(2, 3, 4, 5, 7, 8) // without 6
			p.see(offers)
			for range 2 {
				p.delivered(entriesOf(7)[0], offers)
				assert.Equal(t, tc.want, fmt.Sprint(told))
			}
		})
	}
}

func TestPassedOverVersionsBeginAnewWithTheOrigin(t *testing.T) {
	var told []shard.Version
	p := passed{tell: func(e distfile.Entry, _ error) { told = append(told, e.Version) }}
	p.start(9, 0, entriesOf(9))
	p.see(entriesOf(10))
	p.startOver()
	p.see(entriesOf(1, 2))
	p.delivered(entriesOf(2)[0], entriesOf(1, 2))
	assert.Equal(t, []shard.Version{1}, told)
}
