package middle

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// entries returns versions by their numbers, each with a digest of its own.
func entries(numbers ...int) (all []distfile.Entry) {
	for _, n := range numbers {
		all = append(all, distfile.Entry{Version: shard.Version(n), Digest: shard.Digest{byte(n)}})
	}
	return all
}

// another returns version n with the digest of another file.
func another(n int) distfile.Entry {
	return distfile.Entry{Version: shard.Version(n), Digest: shard.Digest{byte(n), 1}}
}

// numbers returns versions by their numbers.
func numbers(ns ...int) (all []shard.Version) {
	for _, n := range ns {
		all = append(all, shard.Version(n))
	}
	return all
}

// listing completes v, whose offers all come from one upstream.
func listing(v view) view {
	if v.offered == nil {
		v.offered = func(e distfile.Entry) bool { return slices.ContainsFunc(v.offers, e.Same) }
	}
	if v.elsewhere == nil {
		v.elsewhere = func(distfile.Entry, ...distfile.Entry) bool { return false }
	}
	return v
}

func TestNextIsTheNewestMissingVersion(t *testing.T) {
	failed := func(numbers ...int) map[distfile.Entry]error {
		all := make(map[distfile.Entry]error)
		for _, e := range entries(numbers...) {
			all[e] = errors.New("it failed")
		}
		return all
	}
	for name, tc := range map[string]struct {
		view view
		want int // 0 for none
	}{
		"nothing on offer":                  {view{}, 0},
		"all missing":                       {view{offers: entries(1, 2, 3)}, 3},
		"newest held":                       {view{offers: entries(1, 2, 3), held: entries(3)}, 2},
		"a gap":                             {view{offers: entries(1, 2, 3), held: entries(1, 3)}, 2},
		"all held":                          {view{offers: entries(1, 2), held: entries(1, 2)}, 0},
		"older beyond those to keep":        {view{offers: entries(1, 2, 3, 4), held: entries(2, 3, 4)}, 0},
		"held as another file":              {view{offers: entries(1), held: []distfile.Entry{another(1)}}, 1},
		"newest arriving":                   {view{offers: entries(1, 2), arriving: entries(2)}, 0},
		"newer than all arriving":           {view{offers: entries(1, 2, 3), arriving: entries(1, 2)}, 3},
		"older than one arriving":           {view{offers: entries(1, 2), held: entries(2), arriving: entries(4)}, 0},
		"number arriving as another file":   {view{offers: entries(1), arriving: []distfile.Entry{another(1)}}, 0},
		"three arriving":                    {view{offers: entries(1, 2, 3, 4), arriving: entries(1, 2, 3)}, 4},
		"four arriving":                     {view{offers: entries(1, 2, 3, 4, 5), arriving: entries(1, 2, 3, 4)}, 0},
		"newest failed":                     {view{offers: entries(1, 2), failed: failed(2)}, 1},
		"all failed":                        {view{offers: entries(1, 2), failed: failed(1, 2)}, 0},
		"older in a failed version's place": {view{offers: entries(1, 2, 3), held: entries(2), failed: failed(3)}, 1},
		"older than a stalled one": {
			view{offers: entries(1, 2), arriving: entries(2), stalled: entries(2)}, 1,
		},
		"four stalled": {
			view{offers: entries(1, 2, 3, 4, 5), arriving: entries(2, 3, 4, 5), stalled: entries(2, 3, 4, 5)}, 1,
		},
		"a stalled one takes no place": {
			view{offers: entries(1, 2, 3, 4), held: entries(2, 3), arriving: entries(4), stalled: entries(4)}, 1,
		},
		"one upstream alone takes no place": {
			view{offers: entries(1, 2, 3, 4), held: entries(2, 3, 4), alone: entries(4)}, 1,
		},
		"older than the held ones": {view{offers: entries(1, 2), held: entries(2, 3), complete: true}, 1},
		"begun again":              {view{offers: entries(1, 2), held: entries(3), complete: true}, 0},
		"begun again, and that is accepted": {
			view{offers: entries(1, 2), held: entries(3), complete: true, acceptRestart: true}, 2,
		},
		"another file of a failed version": {view{offers: []distfile.Entry{another(1)}, failed: failed(1)}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			tc.view = listing(tc.view)
			tc.view.keep = 3
			got, ok := tc.view.next()
			assert.Equal(t, tc.want > 0, ok)
			if ok {
				assert.EqualValues(t, tc.want, got.Version)
			}
		})
	}
}

func TestOnlyVersionsThatAreOverGo(t *testing.T) {
	for name, tc := range map[string]struct {
		view            view
		retired, unlist []shard.Version
		dropped         []shard.Version // drafts, of versions 1 to 5
	}{
		"nothing on offer": {
			view: view{complete: true, held: entries(1, 2), listed: entries(3)},
		},
		"upstreams without an answer": {
			view: view{offers: entries(3), held: entries(1, 2), listed: entries(4)},
		},
		"not on offer any more": {
			view:    view{complete: true, offers: entries(3), held: entries(1, 3), listed: entries(2)},
			retired: numbers(1), unlist: numbers(2), dropped: numbers(1, 2, 4, 5),
		},
		"another file of the number, before all have answered": {
			view:   view{offers: []distfile.Entry{another(1), another(2)}, held: entries(1), listed: entries(2)},
			unlist: numbers(2),
		},
		"older than the held ones": {
			view: view{complete: true, offers: entries(1, 3), held: entries(1, 2, 4), listed: entries(5)},
		},
		"older than the held ones, and all others": {
			view: view{complete: true, offers: entries(3), held: entries(2, 4), listed: entries(5)},
		},
		"older than the held ones, where that is accepted": {
			view: view{
				complete: true, acceptRestart: true, offers: entries(3), held: entries(2, 4), listed: entries(5),
			},
			retired: numbers(2, 4), unlist: numbers(5), dropped: numbers(1, 2, 4, 5),
		},
		"listed, and as many newer ones by one upstream alone": {
			view: view{complete: true, offers: entries(1, 2, 3, 4, 5), alone: entries(3, 4, 5), listed: entries(1)},
		},
		"arriving, as it is fetched again": {
			view:    view{complete: true, offers: entries(3), listed: entries(1, 3), arriving: entries(1)},
			dropped: numbers(2, 4, 5),
		},
		"on offer, while no fetch of it is under way": {
			view:    view{complete: true, offers: entries(1, 2), listed: entries(1, 2)},
			dropped: numbers(3, 4, 5),
		},
		"listed and too old to keep": {
			view:   view{complete: true, offers: entries(1, 2, 3, 4, 5), held: entries(1), listed: entries(2)},
			unlist: numbers(2),
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.view = listing(tc.view)
			tc.view.keep = 3
			assert.Equal(t, tc.retired, tc.view.retired())
			assert.Equal(t, tc.unlist, tc.view.unlisted())
			var dropped []shard.Version
			for _, number := range numbers(1, 2, 3, 4, 5) {
				if !tc.view.needsDraft(number) {
					dropped = append(dropped, number)
				}
			}
			assert.Equal(t, tc.dropped, dropped, "drafts")
		})
	}
}

func TestAFetchEndsWhenNoUpstreamListsItsVersion(t *testing.T) {
	v := view{offers: entries(3), arriving: entries(1, 2, 3)}
	v.offered = func(e distfile.Entry) bool { return e.Version == 2 } // also by its other digest
	assert.Equal(t, entries(1, 3), v.abandoned())
	v.offers = nil
	assert.Empty(t, v.abandoned(), "offers without any version end nothing")
	assert.Equal(t, entries(1, 2, 3), v.arriving)
}

func TestVersionsOfAnotherUpstreamDoNotWaitForOneInTrouble(t *testing.T) {
	liar := entries(1, 7, 8, 9)
	elsewhere := func(e distfile.Entry, others ...distfile.Entry) bool {
		return e.Version <= 2 && !slices.ContainsFunc(others, func(o distfile.Entry) bool { return o.Version <= 2 })
	}
	v := view{keep: 3, offers: append(liar[:1:1], entries(2, 7, 8, 9)...), elsewhere: elsewhere}
	e, ok := v.next()
	assert.True(t, ok)
	assert.Equal(t, entries(9)[0], e)
	v.arriving = entries(9)
	_, ok = v.next()
	assert.False(t, ok)
	for name, v := range map[string]view{
		"stalled": {arriving: entries(8, 9), stalled: entries(9)},
		"failed":  {arriving: entries(8), failed: map[distfile.Entry]error{entries(9)[0]: errors.New("it failed")}},
	} {
		v.keep, v.offers, v.elsewhere = 10, append(liar[:1:1], entries(2, 7, 8, 9)...), elsewhere
		e, ok = v.next()
		assert.True(t, ok, name)
		assert.Equal(t, entries(2)[0], e, name)
	}
}

func TestTheOldestOfTooManyStalledFetchesEnd(t *testing.T) {
	assert.Empty(t, view{stalled: entries(4, 2, 3, 1)}.surplus())
	assert.Equal(t, entries(2, 1), view{stalled: entries(4, 2, 5, 6, 1, 3)}.surplus())
}

func TestAnOlderVersionThatOthersNeedComesAndStaysListed(t *testing.T) {
	v := listing(view{keep: 1, complete: true, offers: entries(1, 2), held: entries(2), listed: entries(1)})
	_, missing := v.next()
	assert.False(t, missing)
	assert.Equal(t, numbers(1), v.unlisted())
	v.needed = entries(1)
	assert.Empty(t, v.unlisted())
	e, _ := v.next()
	assert.Equal(t, entries(1)[0], e)
}

func TestAMiddleWithAKeyHoldsToWhatThePublisherLists(t *testing.T) {
	// The publisher lists v2 and v5, of which v5 is at no upstream.
	listed := entries(2, 5)
	v := listing(view{
		keep: 3, acceptRestart: true, signed: true, complete: true,
		offers: entries(2), held: entries(2, 7), arriving: entries(8), listed: entries(9),
		offered: func(e distfile.Entry) bool { return slices.ContainsFunc(listed, e.Same) },
	})
	assert.Equal(t, numbers(7), v.retired(), "though it is newer than all on offer")
	assert.Equal(t, entries(8), v.abandoned())
	assert.Equal(t, numbers(9), v.unlisted())
	v.held = entries(5)
	assert.Empty(t, v.retired(), "it is listed, although no upstream has it")

	v.offers, v.offered = nil, func(distfile.Entry) bool { return false }
	assert.Equal(t, numbers(5), v.retired(), "the publisher lists nothing")
	v.signed = false
	assert.Empty(t, v.retired(), "of upstreams that list nothing no word counts")
}
