package follow

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/record"
	"github.com/shardcast/shardcast/internal/shard"
)

func TestAWithdrawnVersionIsFollowedByTheNewestThatIsHere(t *testing.T) {
	entry := func(v shard.Version) distfile.Entry { return distfile.Entry{Version: v, Digest: shard.Digest{byte(v)}} }
	held := func(v shard.Version) record.File {
		return record.File{Version: v, Offered: shard.Digest{byte(v)}, Path: v.String(), Delivered: true}
	}
	r := record.Record{Last: 7, Held: []record.File{held(5), held(7)}}
	r.Learn([]distfile.Entry{entry(3), entry(4), entry(5), entry(6), entry(7)})
	r.Delivered = []record.Known{
		{Version: 4, Digest: shard.Digest{4}},
		{Version: 5, Digest: shard.Digest{5}},
		{Version: 7, Digest: shard.Digest{7}},
	}
	for name, tc := range map[string]struct {
		offers []distfile.Entry
		want   shard.Version
	}{
		"one that is here":                 {[]distfile.Entry{entry(4), entry(5), entry(6)}, 5},
		"one that was delivered and went":  {[]distfile.Entry{entry(3), entry(4), entry(6)}, 4},
		"none that was on offer alone":     {[]distfile.Entry{entry(3), entry(6)}, 0},
		"none of another file":             {[]distfile.Entry{{Version: 5, Digest: shard.Digest{99}}}, 0},
		"none that is newer, nor the last": {[]distfile.Entry{entry(7), entry(8)}, 0},
		"nothing on offer":                 {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			to, ok := back(&r, tc.offers)
			assert.Equal(t, tc.want, to.Version)
			assert.Equal(t, tc.want != 0, ok)
		})
	}
	r.GoBack(entry(5))
	assert.EqualValues(t, 4, r.Last)
	f, ok := r.Undelivered()
	assert.True(t, ok)
	assert.EqualValues(t, 5, f.Version)
	assert.True(t, r.IsWithdrawn(entry(7)))
}
