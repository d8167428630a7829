package relay_test

import (
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
)

// outlined is v in three shards of 10 bytes, the last one of 5.
func outlined(v shard.Version) shard.Outline {
	return shard.Outline{
		Version: v, ID: shard.Digest{byte(v)}, Name: "file.bin",
		Date: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), Size: 25, ShardSize: 10,
	}
}

func noFile(int) (relay.File, error) { return nil, os.ErrNotExist }

// told reports whether c is closed.
func told(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestAnUnfinishedVersionIsOnTheBoardAndNotInItsList(t *testing.T) {
	b := relay.NewBoard()
	none, changed := b.Unfinished()
	require.Nil(t, none)
	v := b.BeginUnfinished(outlined(6), 3, noFile)
	assert.True(t, told(changed))
	got, changed := b.Unfinished()
	assert.Same(t, v, got)
	assert.False(t, told(changed))
	assert.Same(t, v, b.Version(6))
	listed, _ := b.Listed()
	assert.Empty(t, listed)
	assert.Equal(t, outlined(6), v.Outline())
	assert.Equal(t, 3, v.Tier)
	assert.Equal(t, int64(5), v.Shard(3).Size())

	v.End()
	assert.True(t, told(changed))
	none, _ = b.Unfinished()
	assert.Nil(t, none)
	assert.Nil(t, b.Version(6))
}

func TestTheNewestUnfinishedVersionCounts(t *testing.T) {
	b := relay.NewBoard()
	seven := b.BeginUnfinished(outlined(7), 0, noFile)
	six := b.BeginUnfinished(outlined(6), 0, noFile)
	b.Begin(distfile.Entry{Version: 8, Digest: shard.Digest{1}}, shard.Manifest{}, 0, noFile) // whose digests are known
	got, _ := b.Unfinished()
	assert.Same(t, seven, got)
	seven.End()
	got, changed := b.Unfinished()
	assert.Same(t, six, got)
	again := b.BeginUnfinished(outlined(6), 0, noFile)
	assert.True(t, told(changed))
	assert.True(t, six.Growth(0).Ended, "another cut of that number has begun")
	got, _ = b.Unfinished()
	assert.Same(t, again, got)
}

func TestGrowthTellsEachDigestOnceAndWhenThereIsMore(t *testing.T) {
	b := relay.NewBoard()
	v := b.BeginUnfinished(outlined(6), 0, noFile)
	g := v.Growth(0)
	assert.Empty(t, g.Shards)
	assert.False(t, told(g.Changed))
	assert.Zero(t, v.Digest(2))

	v.Know(2, shard.Digest{2})
	assert.True(t, told(g.Changed))
	g = v.Growth(0)
	assert.Equal(t, []shard.Known{{Shard: 2, Digest: shard.Digest{2}}}, g.Shards)
	assert.Equal(t, shard.Digest{2}, v.Digest(2))
	v.Know(2, shard.Digest{22})
	assert.False(t, told(g.Changed), "it is known")
	assert.Equal(t, shard.Digest{2}, v.Digest(2))

	v.Know(1, shard.Digest{1})
	v.Know(3, shard.Digest{3})
	assert.Len(t, g.Shards, 1, "what was told does not change")
	g = v.Growth(1)
	assert.Equal(t, []shard.Known{{Shard: 1, Digest: shard.Digest{1}}, {Shard: 3, Digest: shard.Digest{3}}}, g.Shards)
	assert.Zero(t, g.Digest)
	_, whole := v.Whole()
	assert.False(t, whole, "the file's digest is not known")
	_, changed := b.Unfinished()

	v.Finish(shard.Digest{9})
	assert.True(t, told(g.Changed))
	assert.True(t, told(changed))
	g = v.Growth(3)
	assert.Empty(t, g.Shards)
	assert.Equal(t, shard.Digest{9}, g.Digest)
	assert.False(t, g.Ended)
	none, _ := b.Unfinished()
	assert.Nil(t, none, "it is finished")
	assert.Same(t, v, b.Version(6), "and goes on arriving")
	m, whole := v.Whole()
	assert.True(t, whole)
	want := outlined(6).Manifest()
	want.Digest, want.Shards = shard.Digest{9}, []shard.Digest{{1}, {2}, {3}}
	assert.Equal(t, want, m)
	assert.Equal(t, make([]shard.Digest, 3), v.Manifest.Shards, "that is not changed")

	v.End()
	assert.True(t, told(g.Changed))
	g = v.Growth(3)
	assert.True(t, g.Ended)
	assert.Equal(t, shard.Digest{9}, g.Digest, "it has ended well")
}

func TestAVersionThatIsNotUnfinishedIsWhole(t *testing.T) {
	m := shard.Manifest{Size: 10, ShardSize: 10, Digest: shard.Digest{1}, Shards: []shard.Digest{{1}}}
	v := relay.NewBoard().Begin(distfile.Entry{Version: 1, Digest: m.Digest}, m, 0, noFile)
	got, whole := v.Whole()
	assert.True(t, whole)
	assert.Equal(t, m, got)
	assert.Equal(t, shard.Digest{1}, v.Digest(1))
	m.Shards = []shard.Digest{{}}
	v = relay.NewBoard().Begin(distfile.Entry{Version: 1, Digest: m.Digest}, m, 0, noFile)
	_, whole = v.Whole()
	assert.False(t, whole, "no upstream had a manifest")
}

func TestTheEndOfAnUnfinishedVersionIsTold(t *testing.T) {
	v := relay.NewBoard().BeginUnfinished(outlined(6), 0, noFile)
	v.Know(1, shard.Digest{1})
	g := v.Growth(1)
	v.End()
	assert.True(t, told(g.Changed))
	g = v.Growth(0)
	assert.True(t, g.Ended)
	assert.Zero(t, g.Digest)
	assert.Len(t, g.Shards, 1)
}

func TestManyFollowAnUnfinishedVersion(t *testing.T) {
	const count = 1000
	b := relay.NewBoard()
	followers := sync.WaitGroup{}
	awaiting, released := sync.WaitGroup{}, make(chan struct{})
	for range 8 {
		awaiting.Add(1)
		followers.Go(func() {
			v, changed := b.Unfinished()
			for v == nil {
				<-changed
				v, changed = b.Unfinished()
			}
			awaiting.Done()
			seen := make(map[int]bool)
			g := v.Growth(0)
			for ; g.Digest == (shard.Digest{}); g = v.Growth(len(seen)) {
				for _, k := range g.Shards {
					assert.Equal(t, shard.Digest{byte(k.Shard), 1}, k.Digest)
					seen[k.Shard] = true
				}
				if len(g.Shards) == 0 {
					<-g.Changed
				}
			}
			assert.Len(t, seen, count-len(g.Shards))
		})
	}
	o := outlined(1)
	o.Size = count * o.ShardSize
	v := b.BeginUnfinished(o, 0, noFile)
	bringers := sync.WaitGroup{}
	for part := range 4 {
		bringers.Go(func() {
			<-released
			for number := part + 1; number <= count; number += 4 {
				v.Know(number, shard.Digest{byte(number), 1})
			}
		})
	}
	awaiting.Wait() // or they would look when it is finished
	close(released)
	bringers.Wait()
	v.Finish(shard.Digest{9})
	followers.Wait()
}
