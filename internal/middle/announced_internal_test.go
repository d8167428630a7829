package middle

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

func TestAVersionIsAnnouncedWhenItIsFirstOnOffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := distfile.Entry{Version: 1, Digest: shard.Digest{1}}
		two := distfile.Entry{Version: 2, Digest: shard.Digest{2}}
		var a announced
		a.note([]distfile.Entry{one})
		time.Sleep(time.Second)
		a.note([]distfile.Entry{{Version: 1, Digest: one.Digest, Count: 4}, two})
		time.Sleep(time.Second)
		for e, want := range map[distfile.Entry]time.Duration{one: 2 * time.Second, two: time.Second} {
			got, ok := a.since(e.Version, shard.Digest{9}, e.Digest)
			assert.True(t, ok)
			assert.Equal(t, want, got)
		}
		a.note([]distfile.Entry{two})
		_, ok := a.since(1, one.Digest)
		assert.False(t, ok, "it was retired")
		_, ok = a.since(2, one.Digest)
		assert.False(t, ok, "it is another file")
	})
}
