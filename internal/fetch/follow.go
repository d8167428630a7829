package fetch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// What the package comment says under Following.
const (
	longestWait = 55 * time.Second // proxies cut after 60 s, if nobody has told them otherwise
	leastWait   = 5 * time.Second

	// longerAfter is the time after which a longer wait is tried again.
	longerAfter = 10 * time.Minute

	// leastHeld is how long a question must have waited for its end without an answer
	// to be somebody's on the way, not the upstream's.
	leastHeld = 2 * time.Second

	// overdue is what an answer may take longer than the wait that was asked for.
	overdue = 3 * time.Second

	// After an answer that brought something the next question is asked at once, if
	// these have not been too many: so many in a row, and so many each second.
	newsAtOnce    = 50
	newsPerSecond = 4

	// emptyPause is the pause after an answer that waited for less than hurried and
	// brought nothing all the same, doubled each time up to longestPause or the interval.
	emptyPause   = 500 * time.Millisecond
	hurried      = time.Second
	longestPause = 30 * time.Second

	// cutSpread bounds the pause after a question was cut off. Those who were all cut
	// off by one server's end are not to be back in the same instant.
	cutSpread = time.Second
)

// Follow asks all upstreams for their distributions until ctx ends or p is closed,
// as the package comment says: by requests that are answered when there is
// something new, and every interval, which is above 0, where an upstream knows no
// such thing. It calls news after an answer that has changed what an upstream
// offers or [Pool.Heard] says, when one has failed or is back, and when each has
// answered or failed for the first time; one call may stand for several of these,
// and there is never more than one at the same time. It returns when all that it has
// begun has ended.
func (p *Pool) Follow(ctx context.Context, interval time.Duration, news func()) {
	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.life, cancel)()
	told := p.untilNews()
	group.Go(func() {
		p.each(ctx, func(ctx context.Context, u *upstream) {
			f := &follower{
				pool: p, upstream: u, interval: interval, wait: longestWait, quick: rate.NewLimiter(newsPerSecond, newsAtOnce),
			}
			f.run(ctx)
		})
	})
	for {
		select {
		case <-ctx.Done():
			return
		case <-told:
		}
		told = p.untilNews() // before what it is about is looked at
		news()
	}
}

// untilNews returns what is closed by the next tell.
func (p *Pool) untilNews() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.news
}

// tell has those who follow look at what there is, for holders of the pool's mu.
func (p *Pool) tell() {
	close(p.news)
	p.news = make(chan struct{})
}

// follower follows one upstream.
type follower struct {
	pool     *Pool
	upstream *upstream
	interval time.Duration

	wait      time.Duration // to ask for; 0 if even the least was cut off
	longer    time.Time     // when more of it may be tried
	unknowing time.Time     // until when not to ask for any, since it was not known
	failures  int           // in a row
	begun     bool          // it has been asked
	empty     int           // hurried answers in a row that brought nothing
	quick     *rate.Limiter // of answers that brought something
}

// run asks until ctx ends.
func (f *follower) run(ctx context.Context) {
	for {
		pause := f.ask(ctx)
		if sleep(ctx, pause, nil) != nil {
			return
		}
	}
}

// ask asks once, and returns how long to wait before the next time.
func (f *follower) ask(ctx context.Context) (pause time.Duration) {
	q := f.question()
	began := time.Now()
	r, err := f.pool.ask(ctx, f.upstream, q)
	if ctx.Err() != nil {
		return 0
	}
	if !f.begun && !r.told {
		f.pool.mu.Lock()
		f.pool.tell()
		f.pool.mu.Unlock()
	}
	f.begun = true
	if err != nil && r.held > 0 {
		f.shorten()
	}
	later := busy{}
	switch {
	case errors.Is(err, errCutOff):
		f.pool.opts.Logger.Debug("question cut off", "upstream", f.upstream.name, "dur", r.held, "err", err)
		return rand.N(cutSpread)
	case err != nil:
		// Whoever answers in its place afterwards may know more.
		f.failures, f.empty, f.unknowing = f.failures+1, 0, time.Time{}
		pause = f.atMost(longestPause, time.Second, f.failures)
		if errors.As(err, &later) {
			pause = max(pause, time.Duration(float64(later.wait)*(1+rand.Float64()/2)))
		}
		return pause
	case q.wait > 0 && !r.waits:
		f.unknowing = time.Now().Add(longerAfter)
	}
	f.failures = 0
	if f.empty++; r.changed || time.Since(began) > hurried {
		f.empty = 0
	}
	switch {
	case f.question().wait == 0:
		return f.interval
	case f.empty > 0:
		return f.atMost(longestPause, emptyPause, f.empty)
	default:
		return f.quick.Reserve().Delay()
	}
}

// atMost returns pause, doubled from the second time on, up to most or the interval,
// a quarter more or less.
func (f *follower) atMost(most, pause time.Duration, times int) time.Duration {
	most = min(most, f.interval)
	for ; times > 1 && pause < most; times-- {
		pause *= 2
	}
	return aQuarter(min(pause, most))
}

// question returns what to ask next. Only to wait for something else does the ETag
// matter: what comes at once is to be believed, whatever other servers take for one.
func (f *follower) question() question {
	now := time.Now()
	if f.wait < longestWait && now.After(f.longer) {
		f.wait = min(max(2*f.wait, leastWait), longestWait)
		f.longer = now.Add(longerAfter)
	}
	f.pool.mu.Lock()
	defer f.pool.mu.Unlock()
	if f.wait == 0 || f.failures > 0 || f.upstream.etag == "" || now.Before(f.unknowing) {
		return question{}
	}
	return question{etag: f.upstream.etag, wait: f.wait}
}

// shorten has less asked for after a wait that has not come to its end.
func (f *follower) shorten() {
	f.longer = time.Now().Add(longerAfter)
	if f.wait <= leastWait {
		f.wait = 0
		return
	}
	f.wait = max((f.wait / 2).Truncate(time.Second), leastWait)
}

// header says q, see RFC 7240, section 4.3.
func (q question) header() map[string]string {
	header := map[string]string{"Prefer": fmt.Sprintf("wait=%d", int(q.wait.Seconds()))}
	if q.etag != "" {
		header["If-None-Match"] = q.etag
	}
	return header
}

// waitApplied reports whether an upstream says that it waits when asked to (RFC
// 7240, section 3).
func waitApplied(header http.Header) bool {
	for _, value := range header.Values("Preference-Applied") {
		for preference := range strings.SplitSeq(value, ",") {
			name, _, _ := strings.Cut(preference, "=")
			if strings.EqualFold(strings.TrimSpace(name), "wait") {
				return true
			}
		}
	}
	return false
}

// How a question that waits can end.
var (
	errBroken = errors.New("the connection broke")
	errCutOff = errors.New("cut off on the way") // by somebody who is not the upstream
)

// waiting is a question whose answer may be held back.
type waiting struct {
	question

	most  time.Duration // that it can take if nothing is wrong
	begun time.Time
	sent  atomic.Int64 // since begun; 0 if it is not
}

// watchWait returns ctx for q to be asked with, and what knows how that goes.
func (p *Pool) watchWait(ctx context.Context, q question) (context.Context, *waiting) {
	ctx, cancel := context.WithCancelCause(ctx)
	// Our own patience is over later.
	w := &waiting{question: q, most: q.wait + min(overdue, p.opts.Timeout/2), begun: time.Now()}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) {
			// By itself the transport would ask again, at once, when a connection breaks
			// that has been used before.
			if w.held() >= leastHeld {
				cancel(errBroken)
			}
		},
		WroteRequest: func(wrote httptrace.WroteRequestInfo) {
			if wrote.Err == nil {
				// Of a request that is made again although it has been given up, the first
				// time counts.
				w.sent.CompareAndSwap(0, max(1, int64(time.Since(w.begun))))
			}
		},
	}), w
}

// held returns how long the question has been waiting since it was sent.
func (w *waiting) held() time.Duration {
	sent := time.Duration(w.sent.Load())
	if sent == 0 {
		return 0
	}
	return time.Since(w.begun) - sent
}

// ended returns how long the question has waited, and err, which matches errCutOff
// if the upstream is not to blame for it.
func (w *waiting) ended(err error) (held time.Duration, _ error) {
	held = w.held()
	if err == nil || held < leastHeld || held > w.most {
		return held, err
	}
	var code status
	if errors.As(err, &code) {
		switch int(code) {
		case http.StatusRequestTimeout, http.StatusBadGateway, http.StatusGatewayTimeout:
			return held, kind{err, errCutOff}
		}
		return held, err
	}
	if errors.Is(err, ErrUnreachable) {
		return held, kind{err, errCutOff}
	}
	return held, err
}
