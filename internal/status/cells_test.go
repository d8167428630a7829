package status_test

import (
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/status"
)

// Shards of 10 bytes: all, some and none of them here.
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
	v.Add(shards)
	return v
}

// pageOf returns the page of a server with that one version.
func pageOf(t *testing.T, v status.Version) string {
	t.Helper()
	return html(t, status.Status{Versions: []status.Version{v}})
}

func TestEachOfAFewShardsIsDrawn(t *testing.T) {
	v := of(here, here, here, part, begun, missing, missing, here)
	assert.Equal(t, []status.Cell{
		{Shards: 3, Here: 3},
		{Shards: 1, Arriving: 1, Part: 0.4, From: 3},
		{Shards: 1, Arriving: 1, From: 4},
		{Shards: 2, From: 5},
		{Shards: 1, Here: 1, From: 7},
	}, v.Cells)
	assert.Equal(t, []int{8, 4, 2, 2}, []int{v.ShardCount, v.Here, v.Arriving, v.Missing})
	assert.EqualValues(t, 44, *v.Done)
	assert.Equal(t, "shards 1 to 3 here, shards 4 to 5 arriving, shards 6 to 7 missing, shard 8 here", v.Runs())
	assert.Contains(t, text(pageOf(t, v)), "4 of 8 shards here, 2 arriving, 2 missing 44 B of 80 B")
	assert.Contains(t, pageOf(t, v), `viewBox="0 0 8 1"`)
	var drawn []string
	rect := regexp.MustCompile(`<rect class="(\w+)" x="(\d)" width="(\d)" height="([\d.]+)"/>`)
	for _, r := range rect.FindAllStringSubmatch(pageOf(t, v), -1) {
		drawn = append(drawn, r[1]+" "+r[2]+" "+r[3]+" "+r[4])
	}
	assert.Equal(t, []string{
		"here 0 3 1", "coming 3 1 1", "come 3 1 0.4", "coming 4 1 1", "come 4 1 0", "here 7 1 1",
	}, drawn)
}

func TestAVersionIsSummedUpInWords(t *testing.T) {
	many := slices.Repeat([]status.Shard{here, part, missing, missing}, 200)
	damaged := of(here, missing)
	damaged.State = status.Damaged
	for want, v := range map[string]status.Version{
		"all 2 shards here":                     of(here, here),
		" 1 shard here":                         of(here),
		"empty, without shards":                 of(),
		"no shard is here":                      {State: status.Damaged},
		"waits for an upstream":                 {State: status.Waiting},
		"1 of 2 shards here, 1 missing":         damaged,
		"0 of 1 shard here, 1 arriving":         of(begun),
		"200 of 800 shards here, 200 arriving,": of(many...),
	} {
		assert.Contains(t, text(pageOf(t, v)), want)
	}
	assert.NotContains(t, text(pageOf(t, of(here))), "all 1 ")
	assert.Empty(t, of().Runs())
	var unknown status.Version
	unknown.Add([]status.Shard{{Here: true}})
	assert.Nil(t, unknown.Done, "the size of the stream is not known")
}

// However many shards there are, cells are few and count each shard.
func TestCellsAreFewAndCountEachShard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.OneOf(rapid.IntRange(0, 1000), rapid.Just(100_000)).Draw(t, "count")
		period := rapid.IntRange(1, 2000).Draw(t, "period")
		kinds := []status.Shard{here, part, begun, missing}
		shards := make([]status.Shard, count)
		var done int64
		for i := range shards {
			shards[i] = kinds[i/period%4]
			done += shards[i].Bytes
		}
		v := of(shards...)
		if len(v.Cells) > status.MaxCells {
			t.Fatalf("%d cells", len(v.Cells))
		}
		var sum, held, coming int
		for _, c := range v.Cells {
			if c.From != sum || c.Shards < 1 || c.Here+c.Arriving > c.Shards || c.Part < 0 || c.Part > 1 {
				t.Fatalf("%+v", c)
			}
			for _, part := range []float64{0, c.Part, 1} {
				if filled := c.Filled(part); filled < 0 || filled > 1 {
					t.Fatalf("%+v is filled to %g", c, filled)
				}
			}
			sum, held, coming = sum+c.Shards, held+c.Here, coming+c.Arriving
		}
		if sum != count || held != v.Here || coming != v.Arriving ||
			v.Here+v.Arriving+v.Missing != count || *v.Done != done {
			t.Fatalf("%+v is not of %d shards with %d bytes", v, count, done)
		}
		if len(v.Runs()) > 1000 {
			t.Fatalf("too long: %s", v.Runs())
		}
	})
}

func TestACellOfManyShardsCountsThem(t *testing.T) {
	v := of(slices.Repeat([]status.Shard{here, part, missing, missing}, 200)...)
	require.Len(t, v.Cells, 200)
	assert.Equal(t, status.Cell{Shards: 4, Here: 1, Arriving: 1, Part: 0.4, From: 28}, v.Cells[7])
	assert.Equal(t, "shards 1 to 800 partly here", v.Runs())
	assert.NotContains(t, pageOf(t, v), "<path d=\"M0", "too narrow to see")
}
