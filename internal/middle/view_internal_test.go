package middle

import (
	"errors"
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
		"another file of a failed version":  {view{offers: []distfile.Entry{another(1)}, failed: failed(1)}, 1},
	} {
		t.Run(name, func(t *testing.T) {
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
			view:    view{offers: []distfile.Entry{another(1), another(2)}, held: entries(1), listed: entries(2)},
			retired: numbers(1), unlist: numbers(2),
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
	offered := func(e distfile.Entry) bool { return e.Version == 2 } // also by its other digest
	assert.Equal(t, entries(1, 3), v.abandoned(offered))
	v.offers = nil
	assert.Empty(t, v.abandoned(offered), "offers without any version end nothing")
	assert.Equal(t, entries(1, 2, 3), v.arriving)
}
