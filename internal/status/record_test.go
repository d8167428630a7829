package status_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/status"
)

// at is so many seconds after some moment.
func at(seconds float64) time.Time {
	return time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second)))
}

func TestAMeterTellsTheSpeedOfTheLastSeconds(t *testing.T) {
	m := status.NewMeter(at(0), 1000)
	assert.EqualValues(t, 0, m.Speed(at(0), 1000))
	assert.EqualValues(t, 500, m.Speed(at(2), 2000))
	m.Mark(at(5), 2000)
	assert.EqualValues(t, 200, m.Speed(at(5), 2000), "from the beginning")
	m.Mark(at(10), 2000)
	assert.EqualValues(t, 0, m.Speed(at(11), 2000), "what is longer ago has been forgotten")
	assert.EqualValues(t, 100, m.Speed(at(15), 3000))
	m = status.NewMeter(at(0), 0)
	assert.EqualValues(t, 1000, m.Speed(at(0.01), 1000), "what came at once is no speed")
}

func TestARecorderKeepsTenMinutes(t *testing.T) {
	var r status.Recorder
	assert.Empty(t, r.Samples(at(0)))
	assert.NotNil(t, r.Samples(at(0)), "in JSON it is a list")
	var received int64
	for i := range 200 {
		received += 100
		in := received
		r.Record(at(5*float64(i)), 1000*int64(i), &in)
		if i == 0 {
			assert.Empty(t, r.Samples(at(0)), "one look is no speed")
		}
	}
	all := r.Samples(at(5 * 199))
	require.Len(t, all, status.MaxSamples)
	for i, s := range all {
		assert.EqualValues(t, 200, s.Sent)
		assert.EqualValues(t, 20, *s.Received)
		assert.Equal(t, at(5*float64(i+80)), s.Time)
	}
	assert.Len(t, r.Samples(at(5*199+300)), 60, "what is older than ten minutes is gone, also when nobody records")
	assert.Empty(t, r.Samples(at(5000)))
}

func TestARecorderIsBoundedHoweverOftenItIsCalled(t *testing.T) {
	var r status.Recorder
	for i := range 1000 {
		r.Record(at(float64(i)/10), 0, nil)
	}
	assert.Len(t, r.Samples(at(100)), status.MaxSamples)
}

func TestARecorderOfAnOriginHasNothingThatComesIn(t *testing.T) {
	var r status.Recorder
	r.Record(at(0), 0, nil)
	r.Record(at(5), 50, nil)
	assert.Equal(t, []status.Sample{{Time: at(5), Sent: 10}}, r.Samples(at(5)))
}
