package offers

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/shardcast/shardcast/internal/backoff"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/wire"
)

const (
	// leastWait is the shortest time for which a server is asked to hold its answer; a
	// proxy that cuts earlier is not worth it.
	leastWait = 5 * time.Second

	// longerAfter is the time after which a longer wait is tried again.
	longerAfter = 10 * time.Minute

	// After an answer with news the next question is asked at once, up to newsAtOnce times
	// in a row, and then newsPerSecond times a second.
	newsAtOnce    = 50
	newsPerSecond = 1

	// hurried bounds the time of an answer that came too early: without news, and not
	// held. After such an answer the pause is emptyPause, doubled each time.
	hurried    = time.Second
	emptyPause = 500 * time.Millisecond

	// failedPause is the pause after the first failure, doubled each time.
	failedPause = time.Second

	// longestPause bounds both pauses, as the interval does.
	longestPause = 30 * time.Second

	// cutSpread bounds the pause after a question was cut off, so that nodes that were cut
	// off by the end of one proxy do not come back in the same instant.
	cutSpread = time.Second
)

// Follow asks all servers for their distributions until ctx ends or o is closed, as the
// package comment says, and every interval, which is above 0, where a server does not
// hold answers. It calls news, never twice at the same time, when a server lists other
// versions, fails, is back, or has answered or failed for the first time, and when time has
// changed which versions count; one call may stand for several of these. It returns when all
// that it has begun has ended.
func (o *Offers) Follow(ctx context.Context, interval time.Duration, news func()) {
	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(o.life, cancel)()
	changed := o.news.Wait()
	group.Go(func() {
		o.opts.Roster.Each(ctx, func(ctx context.Context, s *remote.Server) {
			newQuestioner(o, s, interval).run(ctx)
		})
	})
	for {
		var due <-chan time.Time
		if until := o.authority.until(); !until.IsZero() {
			due = time.After(time.Until(until))
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-due:
		}
		changed = o.news.Wait() // before the caller looks at what there is
		news()
	}
}

// questioner asks one server again and again.
type questioner struct {
	offers   *Offers
	server   *remote.Server
	interval time.Duration

	wait   time.Duration    // to ask for; 0 if even the least was cut off
	longer time.Time        // when more of it may be tried
	polled time.Time        // until when not to ask for any, since the server does not hold answers
	begun  bool             // it has been asked
	failed backoff.Doubling // after failures
	empty  backoff.Doubling // after hurried answers without news
	quick  *rate.Limiter    // of answers with news
}

func newQuestioner(o *Offers, s *remote.Server, interval time.Duration) *questioner {
	most := min(longestPause, interval)
	return &questioner{
		offers: o, server: s, interval: interval, wait: wire.LongestWait,
		failed: backoff.Doubling{First: min(failedPause, most), Most: most},
		empty:  backoff.Doubling{First: min(emptyPause, most), Most: most},
		quick:  rate.NewLimiter(newsPerSecond, newsAtOnce),
	}
}

// run asks until ctx ends.
func (f *questioner) run(ctx context.Context) {
	for roster.Sleep(ctx, f.ask(ctx), nil) == nil {
	}
}

// ask asks once, and returns how long to wait before the next time.
func (f *questioner) ask(ctx context.Context) (pause time.Duration) {
	q := f.question()
	began := time.Now()
	r, err := f.offers.ask(ctx, f.server, q)
	if ctx.Err() != nil {
		return 0
	}
	if !f.begun && !r.news {
		f.offers.news.Raise()
	}
	f.begun = true
	if err != nil && r.held > 0 {
		f.shorten()
	}
	switch {
	case errors.Is(err, remote.ErrCutOff):
		f.offers.opts.Logger.Debug("question cut off", "upstream", f.server.Name, "dur", r.held, "err", err)
		return rand.N(cutSpread)
	case err != nil:
		// The server that answers in its place afterwards may hold answers.
		f.empty.Reset()
		f.polled = time.Time{}
		pause = f.failed.Next()
		var busy *remote.Busy
		if errors.As(err, &busy) {
			pause = max(pause, roster.Spread(busy.Wait))
		}
		return pause
	case q.wait > 0 && !r.waits:
		f.polled = time.Now().Add(longerAfter)
	}
	f.failed.Reset()
	inVain := !r.changed && time.Since(began) <= hurried
	if !inVain {
		f.empty.Reset()
	}
	switch {
	case f.question().wait == 0:
		return f.interval
	case inVain:
		return f.empty.Next()
	default:
		return f.quick.Reserve().Delay()
	}
}

// question returns what to ask next. The ETag is sent only with a wait: an answer that
// comes at once is to be believed, whatever other servers take for an ETag.
func (f *questioner) question() question {
	now := time.Now()
	if f.wait < wire.LongestWait && now.After(f.longer) {
		f.wait = min(max(2*f.wait, leastWait), wire.LongestWait)
		f.longer = now.Add(longerAfter)
	}
	etag := f.offers.listings.of(f.server).etag
	if f.wait == 0 || f.failed.Failures() > 0 || etag == "" || now.Before(f.polled) {
		return question{follows: true}
	}
	return question{etag: etag, wait: f.wait, follows: true}
}

// shorten has less asked for after a wait that was cut.
func (f *questioner) shorten() {
	f.longer = time.Now().Add(longerAfter)
	if f.wait <= leastWait {
		f.wait = 0
		return
	}
	f.wait = max((f.wait / 2).Truncate(time.Second), leastWait)
}

// header states q (RFC 7240, section 4.3).
func (q question) header() map[string]string {
	header := map[string]string{"Prefer": wire.PreferWait(q.wait)}
	if q.etag != "" {
		header["If-None-Match"] = q.etag
	}
	return header
}
