package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/shard"
)

// How long [Pool.Refresh] waits for the other upstreams when one has answered.
const (
	// Soon is for going on with what the quick ones say: one that hangs must not
	// hold up the others.
	Soon = time.Second

	// All is for what nobody may be missed for.
	All = time.Duration(math.MaxInt64)
)

// Refresh asks all upstreams for their distributions, at the same time and once.
// It returns nil when all have answered, or when patience is over after the first
// one did; the others are still listened to. It returns an error if none
// has a distribution to give, which matches [ErrUnreachable] if none answered,
// and what ended ctx. An upstream that does not answer is taken to offer what it
// offered last.
func (p *Pool) Refresh(ctx context.Context, patience time.Duration) error {
	p.resolveNames(ctx)
	present, _ := p.present()
	results := make(chan error, len(present))
	for _, u := range present {
		go func() { results <- p.refresh(ctx, u) }()
	}
	var failed []error
	var enough <-chan time.Time
	for range present {
		select {
		case err := <-results:
			if err != nil {
				failed = append(failed, err)
			} else if enough == nil {
				enough = time.After(patience)
			}
		case <-enough:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if enough != nil {
		return nil
	}
	p.mu.Lock()
	failed = append(failed, p.unresolved()...)
	p.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("ask for the versions: %w", named(failures(failed)))
}

// Reach is [Pool.Refresh] with [Soon], made again after a wait while it fails, as many times
// as the options allow attempts.
func (p *Pool) Reach(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		err := p.Refresh(ctx, Soon)
		if err == nil || ctx.Err() != nil || attempt >= p.opts.Attempts || errors.Is(err, distfile.ErrTooLong) {
			return err
		}
		if later := (busy{}); errors.As(err, &later) {
			err = sleep(ctx, later.wait, nil)
		} else {
			err = p.pause(ctx, attempt, err)
		}
		if err != nil {
			return err
		}
	}
}

// refresh asks u for its distribution, once for all who want to know.
func (p *Pool) refresh(ctx context.Context, u *upstream) error {
	answer := p.asking.DoChan(u.name, func() (any, error) {
		_, err := p.ask(p.life, u, question{})
		return nil, err
	})
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case r := <-answer:
		return r.Err
	}
}

// question is how to ask for a distribution. The zero value has it sent at once.
type question struct {
	etag string        // of the one that is known
	wait time.Duration // how long the answer may be held back while it is that one
}

// reply is what came of a question.
type reply struct {
	unchanged bool // it has the ETag that was asked with; only this and waits are set then
	entries   []distfile.Entry
	skipped   []distfile.LineError
	etag      string        // or empty
	waits     bool          // the upstream holds answers back when asked to
	held      time.Duration // how long it kept us waiting, also where an error came in the end
	changed   bool          // something else is offered than before
	told      bool          // those who follow were told of it
}

// ask asks u for its distribution and notes what has become of that, unless it was
// cut off or ctx has ended: then nothing is known.
func (p *Pool) ask(ctx context.Context, u *upstream, q question) (reply, error) {
	p.mu.Lock()
	if left := time.Until(u.askLater); left > 0 {
		defer p.mu.Unlock()
		return reply{}, busy{error: u.askErr, wait: left}
	}
	p.mu.Unlock()
	patience := p.opts.Timeout + q.wait
	late := fmt.Errorf("not answered within %v", patience)
	bounded, cancel := context.WithTimeoutCause(ctx, patience, late)
	defer cancel()
	began := time.Now()
	r, err := p.distribution(bounded, u, q)
	if ctx.Err() != nil || errors.Is(err, errCutOff) {
		return r, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	u.err = err
	if err != nil {
		u.fail(err)
	}
	if u.gone {
		return r, err
	}
	if err != nil {
		r.told = p.missed(u, err)
		return r, err
	}
	if q.wait == 0 && began.Before(u.changed) {
		// What was held back has come meanwhile, and may be newer than this.
		r.unchanged = u.heard
	}
	p.noted(u, &r)
	return r, nil
}

// missed notes that u did not answer, and reports whether it has told those who
// follow; for holders of the pool's mu.
func (p *Pool) missed(u *upstream, err error) (told bool) {
	if later := (busy{}); errors.As(err, &later) {
		u.askLater, u.askErr = time.Now().Add(later.wait), err
	}
	u.misses++
	p.opts.Metrics.Failed(u.number, metrics.Down)
	if !u.failing {
		p.opts.Logger.Warn("upstream is down", "upstream", u.name, "err", err)
	}
	if told = !u.failing || !u.heard && u.misses == givenUp; told {
		p.tell()
	}
	u.failing = true
	return told
}

// noted notes what u has answered, for holders of the pool's mu.
func (p *Pool) noted(u *upstream, r *reply) {
	if u.failing {
		p.opts.Logger.Info("upstream is back", "upstream", u.name)
	}
	if !r.unchanged {
		if now := fmt.Sprint(r.skipped); now != u.skipped {
			u.skipped = now
			for _, line := range r.skipped {
				p.opts.Logger.Warn("line skipped", "upstream", u.name, "err", line)
			}
		}
		r.changed = !slices.Equal(u.offered, r.entries)
		u.offered, u.etag = r.entries, r.etag
	}
	if r.changed {
		u.changed = time.Now()
	}
	if r.told = r.changed || u.failing || !u.heard; r.told {
		p.tell()
	}
	u.failing = false
	u.heard = true
}

// distribution gets the distribution of u.
func (p *Pool) distribution(ctx context.Context, u *upstream, q question) (r reply, err error) {
	req := request{path: []string{distfile.FileName}}
	if q.wait > 0 {
		req.header, req.hold = q.header(), q.wait
		var w *waiting
		ctx, w = p.watchWait(ctx, q)
		defer func() { r.held, err = w.ended(err) }()
	}
	body, err := p.get(ctx, u, req)
	if err != nil {
		return reply{}, err
	}
	defer body.Close()
	r = reply{unchanged: body.unchanged, etag: body.header.Get("ETag"), waits: waitApplied(body.header)}
	if r.unchanged {
		return r, nil
	}
	if r.entries, r.skipped, err = distfile.Parse(body); err != nil {
		return reply{}, fmt.Errorf("%s: %w", u.url.JoinPath(distfile.FileName).Redacted(), err)
	}
	return r, nil
}

// Offers returns the versions that upstreams offered when they were last asked,
// ascending. Where they disagree on a version's digest, one counts that is known to have a
// manifest, then the one that most of them state, and then the one of the upstream that
// comes first. What is
// known by two digests, see [Pool.Know], is offered by its SHA-256.
func (p *Pool) Offers() []distfile.Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	var offers []distfile.Entry
	votes := make(map[distfile.Entry]int) // without the count, which not all state
	for _, u := range p.all() {
		for _, e := range u.offered {
			e = p.canonical(e)
			votes[distfile.Entry{Version: e.Version, Digest: e.Digest}]++
			offers = append(offers, e)
		}
	}
	slices.SortStableFunc(offers, func(a, b distfile.Entry) int {
		if a.Version != b.Version {
			return cmp.Compare(a.Version, b.Version)
		}
		a.Count, b.Count = 0, 0
		if p.manifested[a] != p.manifested[b] {
			if p.manifested[a] {
				return -1
			}
			return 1
		}
		return votes[b] - votes[a]
	})
	return slices.CompactFunc(offers, func(a, b distfile.Entry) bool { return a.Version == b.Version })
}

// givenUp is how many times an upstream that was never heard may be asked before
// nobody waits for what it has to say.
const givenUp = 10

// Answered reports whether any upstream has answered since the start.
func (p *Pool) Answered() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.all(), func(u *upstream) bool { return u.heard })
}

// Heard reports whether every upstream has answered once, or failed to ten times,
// so that a version that is not among the offers is none.
func (p *Pool) Heard() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unresolved() == nil &&
		!slices.ContainsFunc(p.all(), func(u *upstream) bool { return !u.gone && !u.heard && u.misses < givenUp })
}

// offers reports whether u offered e when it was last asked.
func (p *Pool) offers(u *upstream, e distfile.Entry) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	e = p.canonical(e)
	return slices.ContainsFunc(u.offered, func(o distfile.Entry) bool { return p.canonical(o).Same(e) })
}

// Offered reports whether any upstream offered e when it was last asked, by either of
// its digests as far as these are known.
func (p *Pool) Offered(e distfile.Entry) bool {
	return slices.ContainsFunc(p.all(), func(u *upstream) bool { return p.offers(u, e) })
}

// Manifest returns the manifest of e from one of the upstreams that offer it, each
// of which is asked once; where none of them has one, that of what others offer as e's
// version. Errors match [fs.ErrNotExist] if those that answered
// have none, [ErrIntegrity] if theirs contradict the distribution,
// [ErrUnreachable] if none answered, and [ErrNoVersion] if none offers e any more.
func (p *Pool) Manifest(ctx context.Context, e distfile.Entry) (shard.Manifest, error) {
	m, err := p.manifestOf(ctx, e)
	if err != nil && errors.Is(err, fs.ErrNotExist) {
		if _, another := p.another(ctx, e); another != nil {
			return *another, nil
		}
	}
	return m, err
}

// manifestOf is Manifest for e alone.
func (p *Pool) manifestOf(ctx context.Context, e distfile.Entry) (shard.Manifest, error) {
	var m shard.Manifest
	refused := new(refusals)
	q := quest{entry: e, refused: refused, try: func(u *upstream) (err error) {
		m, _, err = p.manifest(ctx, u, e)
		return err
	}}
	failed, _, err := p.attempt(ctx, q)
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err != nil:
		err = outcome(e, slices.Concat(failed, p.busy(q), refused.errors()))
	}
	if err != nil {
		return shard.Manifest{}, fmt.Errorf("fetch the manifest of %s: %w", e.Version, named(err))
	}
	return m, nil
}

// another returns what the version of e is fetched as where no upstream that offers e has
// a manifest: what is offered by another digest and has one, or else e and nil. So the
// digest counts whose servers have a manifest, and [Pool.Offers] states that from then on.
func (p *Pool) another(ctx context.Context, e distfile.Entry) (distfile.Entry, *shard.Manifest) {
	p.mu.Lock()
	var others []distfile.Entry
	for _, u := range p.all() {
		for _, o := range u.offered {
			if o = p.canonical(o); o.Version == e.Version && !o.Same(p.canonical(e)) && !slices.ContainsFunc(others, o.Same) {
				others = append(others, o)
			}
		}
	}
	p.mu.Unlock()
	for _, o := range others {
		if m, err := p.manifestOf(ctx, o); err == nil {
			return o, &m
		}
	}
	return e, nil
}

// manifest gets the manifest of e from u, and through how many servers e comes on its way
// to u: 0 if u holds all of it.
func (p *Pool) manifest(ctx context.Context, u *upstream, e distfile.Entry) (m shard.Manifest, tier int, err error) {
	body, err := p.get(ctx, u, request{path: []string{e.Version.String(), "manifest.json"}})
	if errors.Is(err, fs.ErrNotExist) {
		err = refusal{err}
	}
	if err != nil {
		return shard.Manifest{}, 0, err
	}
	defer body.Close()
	m, err = shard.ParseManifest(body)
	if err == nil && m.Digest != e.Digest && m.BLAKE3 != e.Digest {
		err = fmt.Errorf("%w: the file's digest is %s there, and %s in the distribution", shard.ErrManifest, m.Digest, e.Digest)
	}
	if errors.Is(err, shard.ErrManifest) {
		return m, 0, wrong(fmt.Errorf("%s: %w", u.name, err))
	}
	if err != nil {
		return m, 0, fmt.Errorf("%s: %w", u.name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	keep(p.manifested, distfile.Entry{Version: e.Version, Digest: e.Digest}, true)
	return m, tierOf(body.header), nil
}
