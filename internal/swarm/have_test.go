package swarm_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/swarm"
)

func states(signs string) []swarm.State { return []swarm.State(signs) }

func TestLinesListTheChanges(t *testing.T) {
	for _, c := range []struct{ before, now, line string }{
		{"", "---", ""},
		{"", "+++", "+1-3"},
		{"", "+-+", "+1 +3"},
		{"", "+~*-+", "+1 ~2 *3 +5"},
		{"+~-", "+~-", ""},
		{"-~~-", "+++-", "+1-3"},
		{"+++", "+*+", "*2"},
		{"++++", "-++-", "-1 -4"},
		{"+-+-", "++++", "+2 +4"},
	} {
		line := swarm.AppendLine(nil, states(c.before), states(c.now))
		assert.Equal(t, c.line+"\n", string(line), "%s to %s", c.before, c.now)
	}
}

func TestParseLineReadsTheLinesOfAppendLine(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	var before []swarm.State
	read := bytes.Repeat([]byte{'-'}, 300)
	for range 200 {
		now := make([]swarm.State, 300)
		for i := range now {
			if before != nil && draw.IntN(3) > 0 {
				now[i] = before[i]
			} else {
				now[i] = swarm.State("-~+*"[draw.IntN(4)])
			}
		}
		line := swarm.AppendLine(nil, before, now)
		require.LessOrEqual(t, len(line), swarm.MaxLine(300))
		changes, err := swarm.ParseLine(strings.TrimSuffix(string(line), "\n"), 300)
		require.NoError(t, err)
		for _, c := range changes {
			for i := c.From; i <= c.To; i++ {
				read[i-1] = byte(c.State)
			}
		}
		require.Equal(t, string(now), string(read))
		before = now
	}
}

func TestNoLineIsLongerThanMaxLine(t *testing.T) {
	for _, shards := range []int{1, 9, 10, 99, 1000, 1001} {
		now := make([]swarm.State, shards)
		for i := range now {
			now[i] = swarm.State("~+"[i%2]) // no two in a row, so no ranges
		}
		assert.LessOrEqual(t, len(swarm.AppendLine(nil, nil, now)), swarm.MaxLine(shards), "%d", shards)
	}
}

func TestMalformedLinesAreRefused(t *testing.T) {
	for _, line := range []string{
		"1", "?1", "+", "+0", "+01", "+-1", "+4", "+1-4", "+2-1", "+1-", "+1-2-3", "++1", "+1x", "+1,2",
		"+99999999999999999999", "+1 \x002",
		"+2 +1", "+1 -1", "+1-3 -1-3", "+1-2 ~2-3",
	} {
		_, err := swarm.ParseLine(line, 3)
		require.ErrorIs(t, err, swarm.ErrHave, "%q", line)
	}
	for _, line := range []string{"", " ", "+1", "+1  -3", "*1-3"} {
		_, err := swarm.ParseLine(line, 3)
		assert.NoError(t, err, "%q", line)
	}
}

func FuzzParseLine(f *testing.F) {
	for _, line := range []string{"", "+1-3 ~4", "*2 -1", "+1-", "+99999999999999999999"} {
		f.Add(line, 5)
	}
	f.Fuzz(func(t *testing.T, line string, shards int) {
		changes, err := swarm.ParseLine(line, shards)
		if err != nil {
			assert.ErrorIs(t, err, swarm.ErrHave)
			return
		}
		last := 0
		for _, c := range changes {
			assert.True(t, last < c.From && c.From <= c.To && c.To <= shards, "%v of %d", c, shards)
			last = c.To
		}
	})
}
