package lookup_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/client/sitetest"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

func TestTheLatestVersionIsThatOfTheFirstServerOrOfMost(t *testing.T) {
	t.Parallel()
	one, two, three := content(1, 1), content(2, 1), content(3, 1)
	short, long := newSite(t, one), newSite(t, one, two)
	liar := sitetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("v999999999999999999: " + digestOf(three).String() + "\n"))
	}))
	for name, tc := range map[string]struct {
		sites []*site
		want  shard.Version
	}{
		"the second of two lies": {[]*site{long, liar}, 2},
		"the second is ahead":    {[]*site{short, long}, 1},
		"one of three lies":      {[]*site{liar, long, long}, 2},
		"one of three is ahead":  {[]*site{long, short, liar}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var at []*site
			for _, s := range tc.sites { // each upstream has an address of its own
				at = append(at, sitetest.Serve(t, s.Config.Handler))
			}
			e, err := newFinder(t, at...).Find(t.Context(), 0)
			require.NoError(t, err)
			assert.Equal(t, tc.want, e.Version)
		})
	}
	t.Run("by its number it is found anywhere", func(t *testing.T) {
		t.Parallel()
		f := newFinder(t, newSite(t, one), sitetest.Serve(t, liar.Config.Handler))
		e, err := f.Find(t.Context(), shard.MaxVersion)
		require.NoError(t, err)
		assert.Equal(t, digestOf(three), e.Digest)
	})
	t.Run("all of three lie", func(t *testing.T) {
		t.Parallel()
		other := newSite(t, three)
		_, err := newFinder(t, liar, other, newSite(t)).Find(t.Context(), 0)
		require.ErrorIs(t, err, fetch.ErrNoVersion)
		assert.ErrorContains(t, err, "v999999999999999999 is listed by "+liar.URL)
	})
}
