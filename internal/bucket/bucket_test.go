package bucket_test

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/bucket"
)

func TestBucketIsFullWhenItSays(t *testing.T) {
	for _, perSecond := range []int64{1, 3, 9_999, 1_234_567, 7_000_000_001, math.MaxInt64} {
		t.Run(fmt.Sprint(perSecond), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := bucket.New(perSecond)
				assert.Zero(t, b.UntilFull())
				for _, n := range []int{b.Burst(), b.Burst()/3 + 1, 1} {
					require.NoError(t, b.Take(t.Context(), n))
					wait := b.UntilFull()
					assert.InDelta(t, float64(n)/float64(perSecond), wait.Seconds(), 2e-9)
					time.Sleep(wait)
					assert.Zero(t, b.UntilFull())
				}
			})
		})
	}
	assert.Zero(t, bucket.New(0).UntilFull())
	assert.Equal(t, math.MaxInt32, bucket.New(math.MaxInt64).Burst(), "an int may be no larger")
}
