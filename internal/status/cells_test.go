package status_test

import (
	"iter"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/status"
)

// Shards of 10 bytes: all of it, a part of it, begun, and nothing.
var (
	here    = status.Shard{Here: true, Size: 10, Bytes: 10}
	part    = status.Shard{Begun: true, Size: 10, Bytes: 4}
	begun   = status.Shard{Begun: true, Size: 10}
	missing = status.Shard{Size: 10}
)

// of returns a version of shards.
func of(shards ...status.Shard) status.Version {
	size := int64(10 * len(shards))
	v := status.Version{Version: "v1", State: status.Arriving, Size: &size}
	v.Add(len(shards), slices.Values(shards))
	return v
}

func TestAFewShardsHaveACellEachButForThoseWithNothingToTell(t *testing.T) {
	v := of(here, here, here, part, begun, missing, missing, here)
	assert.Equal(t, []status.Cell{
		{Shards: 3, Here: 3}, {Shards: 1, Arriving: 1, Part: 0.4}, {Shards: 1, Arriving: 1}, {Shards: 2}, {Shards: 1, Here: 1},
	}, v.Cells)
	assert.Equal(t, []int{8, 4, 2, 2}, []int{v.ShardCount, v.Here, v.Arriving, v.Missing})
	assert.EqualValues(t, 44, *v.Done)
	assert.Equal(t, "4 of 8 shards here, 2 arriving, 2 missing", v.Words())
	assert.Equal(t, "shards 1 to 3 here, shards 4 to 5 arriving, shards 6 to 7 missing, shard 8 here", v.Runs())
	assert.Equal(t, []status.Box{
		{Class: "here", X: 0, Y: 0, Width: 375, Height: 20},
		{Class: "come", X: 375, Y: 12, Width: 125, Height: 8},
		{Class: "coming", X: 375, Y: 0, Width: 125, Height: 12},
		{Class: "coming", X: 500, Y: 0, Width: 125, Height: 20},
		{Class: "here", X: 875, Y: 0, Width: 125, Height: 20},
	}, v.Boxes())
}

func TestAllAndNoShardsAreSaidSo(t *testing.T) {
	assert.Equal(t, "all 2 shards here", of(here, here).Words())
	assert.Equal(t, "all 1 shard here", of(here).Words())
	empty := of()
	assert.Equal(t, "all 0 shards here", empty.Words())
	assert.Empty(t, empty.Runs())
	assert.Empty(t, empty.Boxes())
	assert.Equal(t, "waits for an upstream", status.Version{State: status.Waiting}.Words())
	damaged := of(here, missing)
	damaged.State = status.Damaged
	assert.Equal(t, "1 of 2 shards here, 1 missing", damaged.Words())
	assert.Nil(t, func() *int64 {
		var v status.Version
		v.Add(1, slices.Values([]status.Shard{{Here: true}}))
		return v.Done
	}(), "of a file whose size is not known")
}

// However many shards there are, cells are few and say all of them.
func TestCellsAreFewAndTellOfEachShard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.OneOf(rapid.IntRange(0, 1000), rapid.Just(100_000)).Draw(t, "count")
		period := rapid.IntRange(1, 2000).Draw(t, "period")
		kinds := []status.Shard{here, part, begun, missing}
		var shards iter.Seq[status.Shard] = func(yield func(status.Shard) bool) {
			for i := range count {
				if !yield(kinds[i/period%4]) {
					return
				}
			}
		}
		size := int64(10 * count)
		v := status.Version{Size: &size}
		v.Add(count, shards)
		if len(v.Cells) > status.MaxCells {
			t.Fatalf("%d cells", len(v.Cells))
		}
		var sum, held, coming int
		var done int64
		for s := range shards {
			done += s.Bytes
		}
		for _, c := range v.Cells {
			sum, held, coming = sum+c.Shards, held+c.Here, coming+c.Arriving
			if c.Shards < 1 || c.Here+c.Arriving > c.Shards || c.Part < 0 || c.Part > 1 {
				t.Fatalf("%+v", c)
			}
		}
		if sum != count || held != v.Here || coming != v.Arriving || v.Here+v.Arriving+v.Missing != count || *v.Done != done {
			t.Fatalf("%+v is not of %d shards with %d bytes", v, count, done)
		}
		for _, b := range v.Boxes() {
			if b.X < 0 || b.X+b.Width > 1000.02 || b.Y < 0 || b.Y+b.Height > 20.02 || b.Height <= 0 {
				t.Fatalf("%+v is outside", b)
			}
		}
		if len(v.Runs()) > 1000 || len(v.Borders()) > 2000 {
			t.Fatalf("too long: %s %s", v.Runs(), v.Borders())
		}
	})
}

func TestACellOfManyShardsSaysHowManyOfThem(t *testing.T) {
	shards := slices.Repeat([]status.Shard{here, part, missing, missing}, 200)
	v := of(shards...)
	require.Len(t, v.Cells, 200)
	assert.Equal(t, status.Cell{Shards: 4, Here: 1, Arriving: 1, Part: 0.4}, v.Cells[7])
	assert.Equal(t, "shards 1 to 800 partly here", v.Runs())
	assert.Equal(t, "200 of 800 shards here, 200 arriving, 400 missing", v.Words())
	assert.Empty(t, v.Borders(), "nobody could see them")
}
