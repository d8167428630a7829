package fetch_test

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
)

// partOf makes each answer go wrong after a part of it.
func partOf(part float64, fault func(w http.ResponseWriter, r *http.Request)) spoiler {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&faulty{ResponseWriter: w, at: func(written int64) (int64, func()) {
			size, _ := strconv.ParseFloat(w.Header().Get("Content-Length"), 64)
			if left := max(int64(part*size), 1) - written; left > 0 {
				return left, nil
			}
			return 0, func() {
				_ = http.NewResponseController(w).Flush()
				fault(w, r)
			}
		}}, r)
	}
}

// whole makes fault answer in place of the handler.
func whole(fault func(w http.ResponseWriter, r *http.Request)) spoiler {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) { fault(w, r) }
}

func TestFetchGoesRoundAStall(t *testing.T) {
	for name, tc := range map[string]struct {
		bad  spoiler
		most time.Duration
	}{
		"stops at 99 %":              {partOf(0.99, hang), 20 * time.Second},
		"stops at 99 %, at first":    {oncePerPath(partOf(0.99, hang)), 20 * time.Second},
		"stops in the middle":        {partOf(0.5, hang), 20 * time.Second},
		"a byte a second":            {drip(0), 20 * time.Second},
		"a byte a second in the end": {drip(megabyte/2 - 10), 20 * time.Second},
		"never answers":              {whole(hang), 20 * time.Second},
		"breaks off in the middle":   {partOf(0.5, cut), 20 * time.Second},
		"breaks off at once":         {whole(cut), 20 * time.Second},
	} {
		t.Run("one of two "+name, func(t *testing.T) {
			simulate(t, publish(t, 10*megabyte, megabyte/2), func(t *testing.T, n *network) {
				good := n.host("good", megabyte)
				bad := n.host("bad", megabyte).spoilWith(tc.bad)
				got := n.fetch(t, fetch.Options{}, good, bad)
				t.Logf("took %v, %.2f %% wasted, %d and %d requests", got.took, got.wastedPercent(), len(good.asked()),
					len(bad.asked()))
				assert.LessOrEqual(t, got.took, tc.most)
				assert.LessOrEqual(t, got.wastedPercent(), 5.)
				assert.Empty(t, got.log.with("level=WARN"))
			})
		})
	}
}

func TestFetchRetriesASingleUpstreamThatStalls(t *testing.T) {
	for name, tc := range map[string]struct {
		bad  spoiler
		most time.Duration // ten seconds without trouble
	}{
		"stops at 99 %":                 {oncePerPath(partOf(0.99, hang)), 30 * time.Second},
		"the first stops at 99 %":       {first(partOf(0.99, hang)), 20 * time.Second},
		"a byte a second":               {oncePerPath(drip(0)), 90 * time.Second},
		"the first a byte a second":     {first(drip(0)), 20 * time.Second},
		"a byte a second, later":        {oncePerPath(drip(megabyte / 4)), 60 * time.Second},
		"never answers":                 {oncePerPath(whole(hang)), 90 * time.Second},
		"the first never answers":       {first(whole(hang)), 20 * time.Second},
		"breaks off in the middle":      {oncePerPath(partOf(0.5, cut)), 15 * time.Second},
		"breaks off after 100 KiB each": {faultAt(100<<10, cut), 20 * time.Second},
		"breaks off in the middle each": {partOf(0.5, cut), 60 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, 10*megabyte, megabyte/2), func(t *testing.T, n *network) {
				only := n.host("only", megabyte).spoilWith(tc.bad)
				got := n.fetch(t, fetch.Options{}, only)
				t.Logf("took %v, %.2f %% wasted, %d requests", got.took, got.wastedPercent(), len(only.asked()))
				assert.LessOrEqual(t, got.took, tc.most)
				assert.LessOrEqual(t, got.wastedPercent(), 5.)
			})
		})
	}
}

func TestATransferGoesOnAtTheByteWhereItStopped(t *testing.T) {
	const stop = 700_000
	simulate(t, publish(t, megabyte, megabyte), func(t *testing.T, n *network) {
		only := n.host("only", 2*megabyte).spoilWith(first(faultAt(stop, cut)))
		got := n.fetch(t, fetch.Options{}, only)
		requests := only.asked()
		require.Len(t, requests, 2)
		assert.Empty(t, requests[0].asked)
		assert.Equal(t, fmt.Sprintf("bytes=%d-%d", stop, megabyte-1), requests[1].asked)
		assert.Equal(t, http.StatusPartialContent, requests[1].status)
		assert.Zero(t, got.Wasted)
	})
}

func TestFetchUsesAnUpstreamAgainAfterAnOutage(t *testing.T) {
	for name, tc := range map[string]struct {
		shardSize int
	}{
		"small shards": {megabyte / 2},
		"large shards": {6 * megabyte},
	} {
		t.Run(name, func(t *testing.T) {
			const from, to = 5 * time.Second, 25 * time.Second
			simulate(t, publish(t, 60*megabyte, tc.shardSize), func(t *testing.T, n *network) {
				steady := n.host("steady", megabyte/2)
				flaky := n.host("flaky", 2*megabyte).outage(from, to)
				got := n.fetch(t, fetch.Options{}, steady, flaky)
				var again time.Duration
				for _, r := range flaky.asked() {
					if r.at >= to && again == 0 {
						again = r.at - to
					}
				}
				t.Logf("took %v, asked again after %v", got.took, again)
				assert.Positive(t, again)
				assert.LessOrEqual(t, again, 10*time.Second)
				// 12.5 MB until the outage, 10 MB in it, and 37.5 MB in 15 s after it.
				assert.LessOrEqual(t, got.took, 50*time.Second)
				assert.LessOrEqual(t, got.wastedPercent(), 5.)
			})
		})
	}
}

// An upstream that hung is tried again as soon as one that refused.
func TestFetchUsesAnUpstreamAgainThatHadHung(t *testing.T) {
	const from, to = 5 * time.Second, 25 * time.Second
	simulate(t, publish(t, 30*megabyte, megabyte/2), func(t *testing.T, n *network) {
		steady := n.host("steady", megabyte/4)
		hangs := n.host("hangs", megabyte).varies(func(since time.Duration) float64 {
			if since >= from && since < to {
				return 500
			}
			return megabyte
		})
		got := n.fetch(t, fetch.Options{}, steady, hangs)
		t.Logf("took %v", got.took)
		// 6 MB until it hangs, 5 MB while it does, and 19 MB in 15 s after that.
		assert.LessOrEqual(t, got.took, 60*time.Second)
		assert.LessOrEqual(t, got.wastedPercent(), 5.)
	})
}

func TestFetchSurvivesAnOutageOfTheOnlyUpstream(t *testing.T) {
	simulate(t, publish(t, 10*megabyte, megabyte/2), func(t *testing.T, n *network) {
		flaky := n.host("flaky", megabyte).outage(5*time.Second, 15*time.Second)
		got := n.fetch(t, fetch.Options{}, flaky)
		t.Logf("took %v", got.took)
		assert.LessOrEqual(t, got.took, 45*time.Second)
		assert.LessOrEqual(t, got.wastedPercent(), 5.)
	})
}

// A new upstream counts as fast as the fastest for a second, so that all workers may end up
// at one that sends nothing. All of them leave it like a single one.
func TestAllWorkersLeaveAnUpstreamThatSendsNothing(t *testing.T) {
	for name, bad := range map[string]spoiler{
		"a byte a second": drip(0), "never answers": whole(hang),
		"stops in the middle": partOf(0.5, hang),
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, 10*megabyte, megabyte/16), func(t *testing.T, n *network) {
				good := n.host("good", 2*megabyte)
				bad := n.host("bad", 2*megabyte).spoilWith(bad)
				got := n.fetch(t, fetch.Options{}, good, bad)
				t.Logf("took %v, %.2f %% wasted, %d and %d requests", got.took, got.wastedPercent(), len(good.asked()),
					len(bad.asked()))
				assert.LessOrEqual(t, got.took, 20*time.Second)
			})
		})
	}
}
