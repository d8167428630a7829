package reuse_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/reuse"
)

func TestUnionJoinsWhatTouches(t *testing.T) {
	ranges := []disk.Range{{From: 10, To: 20}, {From: 30, To: 40}, {From: 50, To: 60}}
	for name, tc := range map[string]struct {
		add  disk.Range
		want []disk.Range
	}{
		"before":  {disk.Range{From: 0, To: 5}, slices.Concat([]disk.Range{{From: 0, To: 5}}, ranges)},
		"behind":  {disk.Range{From: 70, To: 80}, slices.Concat(ranges, []disk.Range{{From: 70, To: 80}})},
		"between": {disk.Range{From: 20, To: 30}, []disk.Range{{From: 10, To: 40}, {From: 50, To: 60}}},
		"over":    {disk.Range{From: 35, To: 70}, []disk.Range{{From: 10, To: 20}, {From: 30, To: 70}}},
		"within":  {disk.Range{From: 12, To: 13}, ranges},
		"all":     {disk.Range{From: 0, To: 99}, []disk.Range{{From: 0, To: 99}}},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, reuse.Union(ranges, tc.add)) })
	}
	assert.Equal(t, []disk.Range{{From: 1, To: 2}}, reuse.Union(nil, disk.Range{From: 1, To: 2}))
}

func TestSmallPartsOfALargeShardAreNotWorthARequest(t *testing.T) {
	small, large := disk.Range{From: 0, To: 512}, disk.Range{From: 1024, To: 1024 + 64<<10}
	assert.Equal(t, []disk.Range{large}, reuse.Worthwhile([]disk.Range{small, large}, 1<<20))
	assert.Equal(t, []disk.Range{small}, reuse.Worthwhile([]disk.Range{small}, 512), "it is all of the shard")
}
