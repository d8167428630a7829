package fetch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
)

// kind is an error that matches is, without saying so in its text.
type kind struct {
	error

	is error
}

func (e kind) Unwrap() error { return e.error }

// Is says what it matches besides what it wraps.
func (e kind) Is(target error) bool { return target == e.is }

// unanswered is for an error that came in place of an answer.
func unanswered(err error) error { return kind{err, ErrUnreachable} }

// wrong is for an answer that is not what was asked for, and after which the
// upstream need not be asked again.
func wrong(err error) error { return refusal{kind{err, ErrIntegrity}} }

// refusal is an error after which the upstream need not be asked again.
type refusal struct{ error }

func (e refusal) Unwrap() error { return e.error }

// local is an error of this machine's, which no other upstream can mend.
type local struct{ error }

func (e local) Unwrap() error { return e.error }

// refusals are the upstreams that are not asked again, with their reasons.
type refusals struct {
	mu  sync.Mutex // guards why
	why map[*upstream]error
}

// add notes why u is not asked again, and reports whether that is new.
func (r *refusals) add(u *upstream, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why == nil {
		r.why = make(map[*upstream]error)
	}
	if r.why[u] != nil {
		return false
	}
	r.why[u] = err
	return true
}

func (r *refusals) has(u *upstream) bool { return r.of(u) != nil }

// of returns why u is not asked again, or nil.
func (r *refusals) of(u *upstream) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.why[u]
}

// lack reports whether somebody does not have what was asked for.
func (r *refusals) lack() bool {
	return slices.ContainsFunc(r.errors(), func(err error) bool { return errors.Is(err, fs.ErrNotExist) })
}

// errors returns the reasons of upstreams. That a peer is not asked again says nothing of
// these.
func (r *refusals) errors() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, u := range slices.SortedFunc(maps.Keys(r.why), func(a, b *upstream) int { return a.index - b.index }) {
		if !u.peer {
			errs = append(errs, r.why[u])
		}
	}
	return errs
}

// moved is the failure of a transfer that got somewhere: it is continued, and
// does not count as an attempt.
type moved struct{ error }

func (e moved) Unwrap() error { return e.error }

// errNobody is why an attempt ends.
var errNobody = errors.New("no upstream left")

// quest is something to be got from one upstream of those that offer entry.
type quest struct {
	entry   distfile.Entry
	refused *refusals
	first   *upstream            // to be tried before the others, or nil
	may     func(*upstream) bool // be tried; nil is for all
	try     func(*upstream) error
}

// busyPatience is how long upstreams can tell us to come again later, while
// nothing at all comes.
const busyPatience = 10 * time.Minute

// retry tries the upstreams of q one after the other until one succeeds, as the
// package comment says.
func (p *Pool) retry(ctx context.Context, q quest) error {
	start := time.Now()
	for attempt := 1; ; attempt++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		failed, got, err := p.attempt(ctx, q)
		q.first = nil
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.Is(err, errNobody):
			return err
		case got:
			attempt = 0
			continue
		}
		again, err := p.await(ctx, q, start, failed != nil)
		if err != nil {
			return err
		}
		if again {
			attempt--
			continue
		}
		if failed == nil || attempt >= p.opts.Attempts {
			return outcome(q.entry, slices.Concat(failed, p.busy(q), q.refused.errors()))
		}
		if err := p.pause(ctx, attempt, failures(failed)); err != nil {
			return err
		}
		// One that did not answer at first may be back, and have the version.
		_ = p.Refresh(ctx, Soon) // it has logged who is down
	}
}

// await waits for upstreams of q that are busy, and reports whether to ask again. If
// others have failed, those are given some time as well.
func (p *Pool) await(ctx context.Context, q quest, start time.Time, failed bool) (again bool, err error) {
	wait, freed := p.wait(q)
	switch {
	case wait == 0: // unless there is one that was busy, and is not any more
		return !failed && slices.ContainsFunc(p.all(), func(u *upstream) bool { return p.mayAsk(q, u) }), nil
	case time.Since(p.lastByte(start)) >= busyPatience:
		return false, nil
	case failed: // they are not asked again whenever something is freed
		wait, freed = max(wait, p.opts.FastWait), nil
	}
	return true, sleep(ctx, wait, freed)
}

// attempt calls q.try with each upstream that offers q.entry, has not refused and
// is not busy, until it returns nil or an error of this machine's; otherwise it
// returns errNobody, how each of them failed, and whether one got somewhere.
func (p *Pool) attempt(ctx context.Context, q quest) (failed []error, got bool, err error) {
	tried := make(map[*upstream]bool)
	for {
		u := q.first
		if q.first = nil; u == nil {
			u = p.pick(func(u *upstream) bool { return !tried[u] && p.mayAsk(q, u) && p.free(u) })
		}
		if u == nil {
			return failed, got, errNobody
		}
		if !p.claim(u) {
			continue
		}
		tried[u] = true
		had := p.sending(u)
		err := q.try(u)
		if later := (busy{}); errors.As(err, &later) {
			later.error, later.had = err, had
			err = later
		}
		if err == nil || ctx.Err() != nil || errors.As(err, new(local)) {
			p.release(u, err)
			return nil, false, err
		}
		if p.judge(ctx, q, u, err) {
			failed = append(failed, err)
		}
		p.release(u, err) // now, for nobody to ask it before it is known to be busy
		got = got || errors.As(err, new(moved))
		if to := (move{}); errors.As(err, &to) {
			q.first = to.upstream
		}
	}
}

// pick draws one of the upstreams that ok approves of, of those that are idle and
// good if there are any, or returns nil.
func (p *Pool) pick(ok func(*upstream) bool) *upstream {
	idle := p.idle()
	all := p.all()
	// Those who have come since are ranked already.
	among := func(i int) bool { return i < len(all) && ok(all[i]) }
	i := p.rank.Pick(func(i int) bool { return i < len(all) && slices.Contains(idle, all[i]) && ok(all[i]) })
	if i < 0 {
		i = p.rank.Pick(among)
	}
	if i < 0 {
		return nil
	}
	return all[i]
}

// idle returns the good upstreams that nothing is asked of.
func (p *Pool) idle() (idle []*upstream) {
	p.mu.Lock()
	for _, u := range p.all() {
		if u.transfers == 0 && u.free() {
			idle = append(idle, u)
		}
	}
	p.mu.Unlock()
	return slices.DeleteFunc(idle, func(u *upstream) bool { return !p.rank.Good(u.index) })
}

// mayAsk reports whether u is one of those that q is about.
func (p *Pool) mayAsk(q quest, u *upstream) bool {
	return (q.may == nil || q.may(u)) && !q.refused.has(u) && p.offered(q, u)
}

// offered reports whether u offers what q is about.
func (p *Pool) offered(q quest, u *upstream) bool {
	return p.offers(u, q.entry)
}

// judge notes that u has failed with err, and reports whether that counts.
func (p *Pool) judge(ctx context.Context, q quest, u *upstream, err error) bool {
	switch later := (busy{}); {
	case errors.As(err, &later):
		p.opts.Metrics.Failed(u.number, metrics.Busy)
		p.putOff(u, later)
		return false
	case errors.As(err, new(refusal)):
		p.blame(ctx, q, u, err)
		return false
	case errors.Is(err, errCrawl), errors.As(err, new(move)):
		p.opts.Logger.Debug("transfer moved", "version", q.entry.Version.String(), "upstream", u.name, "err", err)
		return false
	case errors.Is(err, fs.ErrNotExist) && p.gone(ctx, q, u), errors.Is(err, errRangeless):
		return false
	}
	p.rank.Failed(u.index)
	p.opts.Metrics.Failed(u.number, metrics.Broken)
	p.opts.Logger.Debug("upstream failed", "version", q.entry.Version.String(), "upstream", u.name, "err", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	u.fail(err)
	return !errors.As(err, new(moved))
}

// gone reports whether u does not offer what q is about any more: it was retired
// there, or replaced.
func (p *Pool) gone(ctx context.Context, q quest, u *upstream) bool {
	return !u.peer && p.refresh(ctx, u) == nil && !p.offered(q, u)
}

// blame has u not asked again for what q is about, because of err, if it still offers
// that.
func (p *Pool) blame(ctx context.Context, q quest, u *upstream, err error) {
	if p.gone(ctx, q, u) {
		return
	}
	p.rank.Failed(u.index)
	if !errors.Is(err, fs.ErrNotExist) {
		p.opts.Metrics.Failed(u.number, metrics.Wrong)
		p.mu.Lock()
		u.last = failure{err, time.Now()}
		p.mu.Unlock()
	}
	if q.refused.add(u, err) && !errors.Is(err, fs.ErrNotExist) {
		p.opts.Logger.Warn("upstream not asked again", "version", q.entry.Version.String(), "upstream", u.name, "err", err)
	}
}

// sleep waits, or until freed is closed. It returns what ended ctx.
func sleep(ctx context.Context, wait time.Duration, freed <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-freed:
		return nil
	case <-time.After(wait):
		return nil
	}
}

// pause waits after an attempt that failed with err, a quarter more or less than
// the options say. It returns what ended ctx.
func (p *Pool) pause(ctx context.Context, attempt int, err error) error {
	wait := p.opts.SlowWait
	if attempt <= p.opts.FastAttempts {
		wait = p.opts.FastWait
	}
	wait = aQuarter(wait)
	p.opts.Logger.Debug("trying again", "attempt", attempt, "wait", wait, "err", err)
	return sleep(ctx, wait, nil)
}

// aQuarter returns wait, made up to a quarter shorter or longer.
func aQuarter(wait time.Duration) time.Duration {
	return time.Duration(float64(wait) * (0.75 + rand.Float64()/2))
}

// failures are the errors of several upstreams, as one sentence.
type failures []error

func (f failures) Error() string {
	texts := make([]string, len(f))
	for i, err := range f {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap leaves out those that did not answer when others did: the others say
// what is the matter.
func (f failures) Unwrap() []error {
	var telling []error
	for _, err := range f {
		if !errors.Is(err, ErrUnreachable) {
			telling = append(telling, err)
		}
	}
	if telling == nil {
		return f
	}
	return telling
}

// outcome is the error for what was wanted of e, with the errors of all who
// offer it.
func outcome(e distfile.Entry, errs []error) error {
	if len(errs) == 0 {
		return kind{fmt.Errorf("no server offers %s with digest %s any more", e.Version, e.Digest), ErrNoVersion}
	}
	return failures(errs)
}

// named says in its text which of our errors err matches; for errors that leave
// the package.
func named(err error) error {
	for _, sort := range []error{ErrNoVersion, ErrIntegrity, ErrUnreachable} {
		if errors.Is(err, sort) {
			return fmt.Errorf("%w: %w", sort, err)
		}
	}
	return err
}
