package lookup_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/client/sitetest"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

const long = time.Hour // longer than a test lives

// growing returns a site that offers v1 up to old, and up to grown from the first request on
// that asks it to hold its answer.
func growing(t *testing.T, old, grown int) *site {
	t.Helper()
	var waited atomic.Bool
	return sitetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		newest := old
		if r.Header.Get("Prefer") != "" {
			waited.Store(true)
			w.Header().Set("Preference-Applied", "wait=55")
		}
		if waited.Load() {
			newest = grown
		}
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, newest))
		for v := 1; v <= newest; v++ {
			fmt.Fprintf(w, "v%d: %s\n", v, digestOf([]byte{byte(v)}))
		}
	}))
}

func TestAwaitTakesALaterOffer(t *testing.T) {
	for name, tc := range map[string]struct {
		old, grown int
		version    shard.Version
		want       shard.Version
	}{
		"a version":         {3, 7, 7, 7},
		"one where is none": {0, 7, 2, 2},
		"any where is none": {0, 7, 0, 7},
		"one that is there": {3, 3, 0, 3},
		"also by its name":  {3, 3, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := newFinder(t, growing(t, tc.old, tc.grown)).Await(t.Context(), tc.version, long)
			require.NoError(t, err)
			assert.Equal(t, tc.want, e.Version)
		})
	}
}

func TestAwaitTakesTheNewestOfAllServersThatAnswer(t *testing.T) {
	answered := make(chan struct{})
	answer := sync.OnceFunc(func() { close(answered) })
	quick := sitetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		defer answer()
		fmt.Fprintf(w, "v1: %s\n", digestOf([]byte("one")))
	}))
	slow := sitetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-answered:
		case <-r.Context().Done():
		}
		fmt.Fprintf(w, "v7: %s\n", digestOf([]byte("seven")))
	}))
	e, err := newFinder(t, slow, quick).Await(t.Context(), 0, long)
	require.NoError(t, err)
	assert.Equal(t, shard.Version(7), e.Version)
}

func TestAwaitDoesNotTakeAnOfferThatNoServerConfirms(t *testing.T) {
	s := newSite(t, content(1, 1))
	f := newFinder(t, s)
	_, err := f.Find(t.Context(), 0)
	require.NoError(t, err)
	s.Close()
	_, err = f.Await(t.Context(), 0, 50*time.Millisecond)
	assert.ErrorIs(t, err, fetch.ErrUnreachable)
}

func TestAwaitFailsAsFindWhenTheTimeIsOver(t *testing.T) {
	down := newSite(t)
	down.Close()
	for name, tc := range map[string]struct {
		site *site
		want error
	}{
		"nothing on offer":  {newSite(t), fetch.ErrNoVersion},
		"something else is": {newSite(t, content(1, 1)), fetch.ErrNoVersion},
		"no answer":         {down, fetch.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			_, without := newFinder(t, tc.site).Find(t.Context(), 4)
			require.ErrorIs(t, without, tc.want)
			for _, wait := range []time.Duration{0, 10 * time.Millisecond} {
				_, err := newFinder(t, tc.site).Await(t.Context(), 4, wait)
				require.ErrorIs(t, err, tc.want)
				assert.EqualError(t, err, without.Error(), "%v", wait)
			}
		})
	}
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("had enough")
	s := sitetest.Serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { cancel(enough) }))
	_, err := newFinder(t, s).Await(ctx, 4, long)
	assert.ErrorIs(t, err, enough)
}
