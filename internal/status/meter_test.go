package status_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/status"
)

// at is so many seconds after some moment.
func at(seconds float64) time.Time {
	return time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second)))
}

func TestAMeterReturnsTheSpeedOfTheLastSeconds(t *testing.T) {
	m := status.NewMeter(at(0), 1000)
	assert.EqualValues(t, 0, m.Speed(at(0), 1000))
	assert.EqualValues(t, 500, m.Speed(at(2), 2000))
	assert.EqualValues(t, 200, m.Mark(at(5), 2000), "since the first mark")
	assert.EqualValues(t, 200, m.Speed(at(5), 2000), "since the beginning")
	assert.EqualValues(t, 0, m.Mark(at(10), 2000), "since the last mark")
	assert.EqualValues(t, 0, m.Speed(at(11), 2000), "the first seconds are forgotten")
	assert.EqualValues(t, 100, m.Speed(at(15), 3000))
	m = status.NewMeter(at(0), 0)
	assert.EqualValues(t, 1000, m.Speed(at(0.01), 1000), "the first bytes are no speed")
}
