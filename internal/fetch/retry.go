package fetch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
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

func (r *refusals) add(u *upstream, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why == nil {
		r.why = make(map[*upstream]error)
	}
	r.why[u] = err
}

func (r *refusals) has(u *upstream) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.why[u]
	return ok
}

func (r *refusals) errors() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, err := range r.why {
		errs = append(errs, err)
	}
	return errs
}

// retry calls try with one upstream after the other of those that offer e, until
// it returns nil, as the package comment says.
func (p *Pool) retry(ctx context.Context, e distfile.Entry, refused *refusals, try func(*upstream) error) error {
	for attempt := 1; ; attempt++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		failed, err := p.attempt(ctx, e, refused, try)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, new(local)):
			return err
		}
		if failed == nil || attempt >= p.opts.Attempts {
			return outcome(e, append(failed, refused.errors()...))
		}
		if err := p.pause(ctx, attempt, failures(failed)); err != nil {
			return err
		}
		// One that did not answer at first may be back, and have the version.
		_ = p.Refresh(ctx, Soon) // it has logged who is down
	}
}

// attempt calls try with each upstream that offers e and has not refused, until
// it returns nil. It returns how each of them failed, or a nil failed if there
// is none to ask.
func (p *Pool) attempt(ctx context.Context, e distfile.Entry, refused *refusals, try func(*upstream) error) (failed []error, err error) {
	tried := make(map[*upstream]bool)
	for {
		i := p.rank.Pick(func(i int) bool {
			u := p.upstreams[i]
			return !tried[u] && !refused.has(u) && p.offers(u, e)
		})
		if i < 0 {
			return failed, errors.New("no upstream left")
		}
		u := p.upstreams[i]
		tried[u] = true
		err := try(u)
		if err == nil || ctx.Err() != nil || errors.As(err, new(local)) {
			return nil, err
		}
		refuses := errors.As(err, new(refusal))
		if refuses || errors.Is(err, fs.ErrNotExist) {
			if p.refresh(ctx, u) == nil && !p.offers(u, e) {
				continue // it was retired there, or replaced
			}
		}
		p.rank.Failed(i)
		if refuses {
			if !errors.Is(err, fs.ErrNotExist) {
				p.opts.Logger.Warn("upstream not asked again", "version", e.Version.String(), "upstream", u.name, "err", err)
			}
			refused.add(u, err)
		} else {
			p.opts.Logger.Debug("upstream failed", "version", e.Version.String(), "upstream", u.name, "err", err)
			failed = append(failed, err)
		}
	}
}

// pause waits after an attempt that failed with err, a quarter more or less than
// the options say. It returns what ended ctx.
func (p *Pool) pause(ctx context.Context, attempt int, err error) error {
	wait := p.opts.SlowWait
	if attempt <= p.opts.FastAttempts {
		wait = p.opts.FastWait
	}
	wait = time.Duration(float64(wait) * (0.75 + rand.Float64()/2))
	p.opts.Logger.Info("trying again", "attempt", attempt, "wait", wait, "err", err)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(wait):
		return nil
	}
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
