package follow

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/record"
	"github.com/shardcast/shardcast/internal/shard"
)

// offer returns version, whose digest begins with these bytes.
func offer(version shard.Version, digest ...byte) distfile.Entry {
	e := distfile.Entry{Version: version}
	copy(e.Digest[:], digest)
	return e
}

// upTo are the versions from 1 to last.
func upTo(last shard.Version) (offers []distfile.Entry) {
	for v := range last {
		offers = append(offers, offer(v+1))
	}
	return offers
}

// versions are those of offers.
func versions(offers []distfile.Entry) (numbers []int) {
	for _, e := range offers {
		numbers = append(numbers, int(e.Version))
	}
	return numbers
}

// anywhere has each version at a server that answers, and no server without one that fails.
func anywhere(_ distfile.Entry, others ...distfile.Entry) bool { return len(others) == 0 }

// first returns the first of two results.
func first(order []distfile.Entry, _ int) []distfile.Entry { return order }

func TestOrderOfVersions(t *testing.T) {
	held := func(last shard.Version, versions ...shard.Version) record.Record {
		r := record.Record{Last: last}
		for _, v := range versions {
			r.Held = append(r.Held, record.File{Version: v, Delivered: true})
		}
		return r
	}
	for name, tc := range map[string]struct {
		record  record.Record
		from    shard.Version
		all     bool
		backlog shard.Version
		want    []int
	}{
		"newest first":                       {want: []int{5, 4, 3, 2, 1}},
		"all":                                {all: true, want: []int{1, 2, 3, 4, 5}},
		"after the last":                     {record: held(3, 2, 3), want: []int{5, 4}},
		"nothing new":                        {record: held(5, 5)},
		"from":                               {from: 3, backlog: 5, want: []int{3, 4, 5}},
		"from, and newer ones since":         {from: 3, backlog: 4, want: []int{3, 4, 5}},
		"from, long since":                   {from: 1, backlog: 2, want: []int{1, 2, 5, 4, 3}},
		"from holds back before the first":   {from: 4, want: []int{5, 4}},
		"from does not after the first":      {record: held(2, 2), from: 5, want: []int{5, 4, 3}},
		"from does not where all began anew": {record: record.Record{Over: true}, from: 4, want: []int{5, 4, 3, 2, 1}},
		"held ones, where all began anew": {
			record: record.Record{Over: true, Held: held(0, 2).Held}, want: []int{5, 4, 3, 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChoice(tc.from, tc.all, anywhere)
			c.backlog = tc.backlog
			assert.Equal(t, tc.want, versions(first(c.order(&tc.record, upTo(5)))))
		})
	}
}

// about is how much a wait with jitter differs from the one without.
func about(wait time.Duration) float64 { return float64(wait) / 4 }

func TestSetbacksByTheirError(t *testing.T) {
	for name, tc := range map[string]struct {
		err   error
		want  reason
		until time.Duration // 0 is never
		other shard.Version // that is taken meanwhile
	}{
		"full disk":    {disk.ErrNoSpace, noRoom, fullPause, 0},
		"no server":    {fetch.ErrUnreachable, noServer, firstPause, 0},
		"wrong bytes":  {fetch.ErrIntegrity, passedOver, 0, 1},
		"foreign file": {errForeign, passedOver, 0, 1},
		"retired":      {fetch.ErrNoVersion, passedOver, firstPause, 1},
		"other":        {errors.New("other"), tryAgain, firstPause, 0},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			c := newChoice(0, false, anywhere)
			s := c.failed(offer(2), tc.err, now)
			assert.Equal(t, tc.want, s.reason)
			if tc.until == 0 {
				assert.Zero(t, s.until)
			} else {
				assert.InDelta(t, tc.until, s.until.Sub(now), about(tc.until))
			}

			e, wait := c.next(new(record.Record), upTo(2), now)
			assert.Equal(t, tc.other, e.Version)
			if tc.other == 0 {
				assert.Equal(t, s.until.Sub(now), wait)
			}
			if tc.until != 0 {
				e, _ = c.next(new(record.Record), upTo(2), s.until)
				assert.Equal(t, shard.Version(2), e.Version, "its time has come")
			}
			e, _ = c.next(new(record.Record), upTo(3), now)
			assert.Equal(t, shard.Version(3), e.Version, "a newer one comes first")
			e, _ = c.next(new(record.Record), append(upTo(1), offer(2, 'x')), now)
			assert.Equal(t, shard.Version(2), e.Version, "another file by that number has not failed")
		})
	}
}

func TestAVersionThatFailsAgainAndAgainIsPassedOver(t *testing.T) {
	now := time.Now()
	c := newChoice(0, false, anywhere)
	failed := errors.New("failed")
	assert.InDelta(t, 5*time.Second, c.failed(offer(1), failed, now).until.Sub(now), about(5*time.Second))
	c.failed(offer(1), fetch.ErrUnreachable, now) // is no round
	s := c.failed(offer(1), failed, now)
	assert.Equal(t, tryAgain, s.reason)
	assert.InDelta(t, 10*time.Second, s.until.Sub(now), about(10*time.Second))
	for range 2 {
		s = c.failed(offer(1), failed, now)
		assert.Equal(t, passedOver, s.reason)
		assert.Equal(t, onceMore, s.until.Sub(now))
	}
	c.fetched(offer(1))
	assert.Equal(t, tryAgain, c.failed(offer(1), failed, now).reason)
}

func TestNewsEndsTheWaitForAServer(t *testing.T) {
	now := time.Now()
	c := newChoice(0, true, anywhere)
	c.failed(offer(1), fetch.ErrUnreachable, now)
	c.failed(offer(2), fetch.ErrIntegrity, now)
	c.answered()
	e, _ := c.next(new(record.Record), upTo(2), now)
	assert.Equal(t, offer(1), e)
	c.failed(offer(1), fetch.ErrIntegrity, now)
	e, wait := c.next(new(record.Record), upTo(2), now)
	assert.Zero(t, e)
	assert.Equal(t, forever, wait)
}

func TestADownloadIsStaleForANewerVersionThatMayCome(t *testing.T) {
	c := newChoice(0, false, anywhere)
	assert.False(t, c.isStale(offer(2), upTo(2)))
	assert.True(t, c.isStale(offer(2), upTo(3)))
	c.failed(offer(3), fetch.ErrIntegrity, time.Now())
	assert.False(t, c.isStale(offer(2), upTo(3)))
	c.failed(offer(4), fetch.ErrUnreachable, time.Now())
	assert.True(t, c.isStale(offer(2), upTo(4)))

	c = newChoice(1, false, anywhere)
	c.start(upTo(2))
	assert.False(t, c.isStale(offer(2), upTo(3)), "it is one of those that come in order")
	c.startOver()
	assert.True(t, c.isStale(offer(2), upTo(3)))
}

func TestAnOriginHasStartedOver(t *testing.T) {
	knows := record.Record{Last: 3, Known: []record.Known{
		{Version: 2, Digest: offer(2).Digest},
		{Version: 3, Digest: offer(3).Digest},
		{Version: 3, Digest: offer(3, 'b').Digest},
	}}
	for name, tc := range map[string]struct {
		record record.Record
		offers []distfile.Entry
		want   bool
	}{
		"nothing was delivered":            {record.Record{}, upTo(1), false},
		"the same":                         {knows, upTo(3), false},
		"the same by its other digest":     {knows, append(upTo(2), offer(3, 'b')), false},
		"newer ones":                       {knows, upTo(5), false},
		"newer ones alone":                 {knows, []distfile.Entry{offer(7)}, false},
		"servers that lag behind":          {knows, upTo(2), false},
		"another file by a known number":   {knows, append(upTo(2), offer(3, 'x')), true},
		"that, and newer ones":             {knows, append(upTo(1), offer(2, 'x'), offer(8)), true},
		"the newest is not known":          {knows, upTo(1), true},
		"an older one is not known either": {knows, []distfile.Entry{offer(1), offer(3)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, restarted(&tc.record, tc.offers))
		})
	}
}

// at returns which versions servers list that answer, for a choice.
func at(servers ...[]distfile.Entry) func(e distfile.Entry, others ...distfile.Entry) bool {
	return func(e distfile.Entry, others ...distfile.Entry) bool {
		return slices.ContainsFunc(servers, func(listed []distfile.Entry) bool {
			return slices.Contains(listed, e) && !slices.ContainsFunc(others, func(o distfile.Entry) bool {
				return slices.Contains(listed, o)
			})
		})
	}
}

func TestAVersionOfAnotherServerDoesNotWaitForOneInTrouble(t *testing.T) {
	now := time.Now()
	r := &record.Record{Last: 2}
	honest, liar := upTo(3), upTo(9)
	for name, err := range map[string]error{
		"dead": fetch.ErrUnreachable, "slow": errSlow, "broken": errors.New("broken"), "retired": fetch.ErrNoVersion,
	} {
		t.Run(name, func(t *testing.T) {
			c := newChoice(0, false, at(honest, liar))
			e, _ := c.next(r, liar, now)
			assert.Equal(t, offer(9), e)
			c.failed(e, err, now)
			if e, _ = c.next(r, liar, now); errors.Is(err, fetch.ErrNoVersion) {
				assert.Equal(t, offer(8), e, "a version that is gone says nothing of its server")
				return
			}
			assert.Equal(t, offer(3), e)
			e, _ = c.next(&record.Record{Last: 3}, liar, now.Add(time.Hour))
			assert.Equal(t, offer(9), e, "it is tried again")
		})
	}
}

func TestVersionsThatComeInOrderAreLostForAnotherServerAlone(t *testing.T) {
	now := time.Now()
	c := newChoice(0, true, at(upTo(3)))
	c.failed(offer(1), fetch.ErrUnreachable, now)
	e, wait := c.next(new(record.Record), upTo(3), now)
	assert.Zero(t, e)
	assert.Equal(t, firstPause, wait)
	require.NoError(t, c.stalled(new(record.Record), offer(1), upTo(3)))
	c.elsewhere = at(upTo(1), []distfile.Entry{offer(2)})
	assert.ErrorIs(t, c.stalled(new(record.Record), offer(1), upTo(2)), errSlow)
}

func TestASlowVersionComesAllTheSameWhereOthersAreNoFaster(t *testing.T) {
	now := time.Now()
	c, r := newChoice(0, false, at(upTo(9))), new(record.Record)
	for _, v := range []shard.Version{9, 8, 7} {
		e, _ := c.next(r, upTo(9), now)
		require.Equal(t, offer(v), e)
		require.ErrorIs(t, c.stalled(r, e, upTo(9)), errSlow)
		assert.Equal(t, slow, c.failed(e, errSlow, now).reason)
	}
	e, _ := c.next(r, upTo(9), now)
	require.Equal(t, offer(6), e)
	require.ErrorIs(t, c.stalled(r, e, upTo(9)), errNotFaster)
	e, _ = c.next(r, upTo(9), now)
	require.Equal(t, offer(9), e)
	require.NoError(t, c.stalled(r, e, upTo(9)))
	c.fetched(e)

	assert.NoError(t, newChoice(0, false, at(upTo(1))).stalled(r, offer(1), upTo(1)), "there is no other")
	assert.NoError(t, newChoice(0, false, at()).stalled(r, offer(2), upTo(2)), "no server answers")
}
