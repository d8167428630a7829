package spread_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/scripts/internal/spread"
)

func TestSpread(t *testing.T) {
	assert.Equal(t, spread.Spread{2, 1, 3}, spread.Of([]float64{3, 1, 2}))
	assert.Equal(t, spread.Spread{2.5, 1, 4}, spread.Of([]float64{4, 1, 2, 3}), "the mean of the two in the middle")
	assert.Equal(t, spread.Spread{7, 7, 7}, spread.Of([]float64{7}))
}

func TestRangesOverlapWhenTheyShareAValue(t *testing.T) {
	a := spread.Of([]float64{1, 2})
	assert.True(t, a.Overlaps(spread.Of([]float64{2, 3})))
	assert.False(t, a.Overlaps(spread.Of([]float64{2.1, 3})))
	assert.False(t, a.Overlaps(spread.Of([]float64{0, 0.9})))
}

func TestCell(t *testing.T) {
	assert.Equal(t, "2.00 (1.00 to 3.00)", spread.Cell([]float64{3, 1, 2}, 2))
	assert.Equal(t, "7", spread.Cell([]float64{7}, 0))
	assert.Empty(t, spread.Cell(nil, 2))
}
