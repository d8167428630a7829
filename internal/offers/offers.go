// Package offers says which versions there are and by whose word: it asks servers for
// their distributions and manifests, and chooses among what they state. It refuses to
// know the bytes of shards.
//
// A caller may lean on this: what a server lists is its last answer, also while it is
// down; every answer is bounded in size and time; and a manifest that [Offers.Choose]
// returns agrees with the digest that is listed.
//
// # Choosing
//
// Where servers list different digests of a version, one digest counts and the other
// servers are left out for that version: the one that most servers list, then that of the
// first server. A distribution does not say whether a digest is the file's SHA-256 or its
// BLAKE3, so either may agree, and where no server that lists the one has a manifest, a
// manifest that states both is taken from a server that lists the other one.
//
// # Counting
//
// Which of the versions that upstreams list a node takes up by itself is decided in package ballot. The
// addresses of a name are one upstream, which lists what half of those list that answer, or more.
//
// # Signing
//
// With a keeper of releases (see package trust) nothing is counted. A version exists if the newest
// release lists it, whichever server sent that; a server's line says only that this server has the
// number; and there is one manifest, by the digest in the release, from any server. Nothing that a
// server lists or states by itself is used in its place. What differs stands in the two types of the
// interface authority, and no other code asks which of them decides, but for the manifest and the
// shards' names. Without a keeper a node that relays gets the text that most upstreams serve, see
// [Offers.Release].
//
// # Following
//
// [Offers.Follow] asks each server again and again, independently of the others. Once it
// has a distribution with an ETag, it asks for another one with If-None-Match and Prefer:
// wait=55 (RFC 7240, section 4.3). Where the answer says Preference-Applied, the next
// question follows at once; elsewhere the server is polled every interval, and asked to
// hold the answer again after 10 min, and after a failure. A question that was held and
// then cut by a proxy is no failure: it is asked with half the wait, down to 5 s, and then
// the server is polled. The file follow.go has the numbers.
//
// # Plain servers
//
// A plain server, like one of the Python package, has shards and no manifest: see
// [Offers.Layouts].
package offers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/shardcast/shardcast/internal/backoff"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signal"
	"github.com/shardcast/shardcast/internal/trust"
	"github.com/shardcast/shardcast/internal/wire"
)

// ErrNoVersion means that no server lists the version, or not any more.
var ErrNoVersion = shard.ErrNoVersion

// How long [Offers.Refresh] waits for the other servers when one has answered.
const (
	// Soon is for going on with the quick answers: a server that hangs must not hold up
	// the others.
	Soon = time.Second

	// All is for callers that need the answer of each server.
	All = time.Duration(math.MaxInt64)
)

// Options configure [Offers]. All but Metrics are required.
type Options struct {
	// Timeout is how long a server may send nothing, and how long its distribution may
	// take beyond the time for which it was asked to hold it.
	Timeout time.Duration

	// Quorum is how many upstreams have to list a version for it to count, beside the rule in
	// the package comment. Zero asks for no more than that.
	Quorum int

	// Keeper decides which release counts, and a release what exists. Nil has what the servers
	// list count.
	Keeper *trust.Keeper

	// Releases has servers asked for their releases, too.
	Releases bool

	// Attempts is how often [Offers.Reach] asks all servers, and Waits are those between.
	Attempts int
	Waits    roster.Waits

	Remote  *remote.Client
	Roster  *roster.Roster
	Metrics *metrics.Metrics
	Logger  *slog.Logger
}

// Offers are the versions that servers list. Its methods may be called from any
// goroutine.
type Offers struct {
	opts   Options
	asking singleflight.Group // questions that several callers share, by server
	life   context.Context    //nolint:containedctx // such a question outlives each of its callers
	end    context.CancelFunc
	news   signal.Signal // what servers list has changed

	expected  atomic.Pointer[expected] // that no question has had yet, or nil
	expecting sync.WaitGroup

	listings  *listings
	authority authority
	began     time.Time

	warning sync.Mutex     // guards warned
	warned  distfile.Entry // the last version that did not count
}

// New returns Offers of the servers of opts.Roster.
func New(opts Options) *Offers {
	o := &Offers{opts: opts, listings: newListings(), began: time.Now()}
	o.authority = votes{o}
	if opts.Keeper != nil {
		o.opts.Releases = true
		o.authority = &signed{of: o, keeper: opts.Keeper, since: o.began}
	}
	o.life, o.end = context.WithCancel(context.Background())
	return o
}

// Close ends the questions that no caller waits for any more.
func (o *Offers) Close() {
	o.end()
	o.expecting.Wait()
	for _, s := range o.opts.Roster.Ever() {
		_, _, _ = o.asking.Do(s.Name, func() (any, error) { return nil, nil }) //nolint:nilnil // only to wait
	}
}

// Changed forgets what servers listed that have gone or come back, and wakes followers.
func (o *Offers) Changed(others []*remote.Server) {
	for _, s := range others {
		o.authority.left(s)
		o.listings.update(s, func(l *listing) { *l = listing{changed: time.Now()} })
	}
	o.news.Raise()
}

// Refresh asks all servers for their distributions, at the same time and once. It returns
// nil when all have answered, or when patience is over after the first answer; the other
// answers still count when they come. It returns an error if no server has a
// distribution to give, which matches [remote.ErrUnreachable] if none answered, and what
// ended ctx.
func (o *Offers) Refresh(ctx context.Context, patience time.Duration) error {
	o.opts.Roster.Names.Resolve(ctx)
	present := o.opts.Roster.Servers()
	results := make(chan error, len(present))
	for _, s := range present {
		go func() { results <- o.Ask(ctx, s) }()
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
	unresolved := o.opts.Roster.Names.Unresolved()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var err error = failures(append(failed, unresolved...))
	if len(failed) > 1 && unresolved == nil && o.opts.Logger.Enabled(ctx, slog.LevelWarn) {
		err = logged{failures(failed)}
	}
	return fmt.Errorf("ask for the versions: %w", Named(err))
}

// Reach is [Offers.Refresh] with [Soon], made again after a wait while it fails, as many
// times as the options allow attempts.
func (o *Offers) Reach(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		err := o.Refresh(ctx, Soon)
		if err == nil || ctx.Err() != nil || attempt >= o.opts.Attempts || errors.Is(err, distfile.ErrTooLong) {
			return err
		}
		wait := o.opts.Waits.After(attempt)
		var busy *remote.Busy
		if errors.As(err, &busy) {
			wait = busy.Wait
		} else {
			wait = backoff.Jitter(wait)
		}
		logger := o.opts.Logger.With("attempt", attempt, "attempts", o.opts.Attempts, "wait", wait, "err", err)
		if attempt == 1 {
			logger.Warn("no versions from any server yet, trying again")
		} else {
			logger.Debug("trying again")
		}
		if err := roster.Sleep(ctx, wait, nil); err != nil {
			return err
		}
	}
}

// Ask asks s for its distribution, once for all callers that want it. It logs failures.
func (o *Offers) Ask(ctx context.Context, s *remote.Server) error {
	answer := o.asking.DoChan(s.Name, func() (any, error) {
		_, err := o.ask(o.life, s, question{})
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
	wait time.Duration // how long the answer may be held while it is that one

	// follows says that no caller gets the error.
	follows bool
}

// reply is the answer to a question.
type reply struct {
	unchanged bool // it has the ETag of the question; of the others only waits is set then
	entries   []distfile.Entry
	skipped   []distfile.LineError
	etag      string        // or empty
	waits     bool          // the server holds answers when asked to
	release   string        // the digest of its release, in hex, or empty
	held      time.Duration // how long it held this one, also where that ended in an error
	changed   bool          // it lists something else than before, or has another release
	news      bool          // followers have been woken
}

// ask asks s for its distribution and notes the answer, unless the question was cut off
// or ctx has ended: then nothing is known.
func (o *Offers) ask(ctx context.Context, s *remote.Server, q question) (reply, error) {
	known := o.listings.of(s)
	if left := time.Until(known.askLater); left > 0 {
		return reply{}, &remote.Busy{Err: known.askErr, Wait: left}
	}
	if known.asked.IsZero() {
		o.listings.update(s, func(l *listing) { l.asked = time.Now() })
	}
	patience := o.opts.Timeout + q.wait
	late := fmt.Errorf("not answered within %v", patience)
	bounded, cancel := context.WithTimeoutCause(ctx, patience, late)
	defer cancel()
	began := time.Now()
	r, err := o.distribution(bounded, s, q)
	if ctx.Err() != nil || errors.Is(err, remote.ErrCutOff) {
		return r, err
	}
	o.opts.Roster.Answered(s, err)
	if !o.opts.Roster.Has(s) {
		return r, err
	}
	if err == nil && o.opts.Releases {
		r.changed = o.askRelease(ctx, s, known, r)
	}
	logger := o.opts.Logger.With("upstream", s.Name)
	if err != nil {
		o.opts.Metrics.Failed(o.opts.Roster.Number(s), metrics.Down)
		level := slog.LevelWarn
		if !q.follows && len(o.opts.Roster.Ever()) == 1 && !known.heard {
			level = slog.LevelDebug // the caller's error says the same
		}
		o.listings.update(s, func(l *listing) { r.news = l.missed(err, logger, level) })
	} else {
		o.listings.update(s, func(l *listing) {
			// An answer that was held may have come meanwhile, and be newer than this.
			r.unchanged = r.unchanged || q.wait == 0 && began.Before(l.changed) && l.heard
			r = l.answered(r, logger)
		})
	}
	if r.news {
		o.news.Raise()
	}
	return r, err
}

// givenUp is how many times a server that never answered may be asked before [Offers.Heard]
// leaves it out.
const givenUp = 10

// missed notes that the server did not answer, and reports whether that is news.
func (l *listing) missed(err error, logger *slog.Logger, level slog.Level) (news bool) {
	var busy *remote.Busy
	if errors.As(err, &busy) {
		l.askLater, l.askErr = time.Now().Add(busy.Wait), err
	}
	l.misses++
	if !l.failing {
		l.down = time.Now()
		logger.Log(context.Background(), level, "upstream is down", "err", err)
	}
	news = !l.failing || !l.heard && l.misses == givenUp
	l.failing = true
	return news
}

// answered notes an answer of the server, and returns it completed.
func (l *listing) answered(r reply, logger *slog.Logger) reply {
	if l.failing {
		logger.Info("upstream is back")
	}
	if !r.unchanged {
		if now := fmt.Sprint(r.skipped); now != l.skipped {
			l.skipped = now
			for _, line := range r.skipped {
				logger.Warn("line skipped", "err", line)
			}
		}
		r.changed = r.changed || !slices.Equal(l.entries, r.entries)
		l.entries, l.etag = r.entries, r.etag
		l.since = begun(l.since, l.entries)
	}
	if r.changed {
		l.changed = time.Now()
	}
	r.news = r.changed || l.failing || !l.heard
	l.failing, l.heard = false, true
	return r
}

// begun returns since when a server lists entries, which it listed since the times of before.
func begun(before map[distfile.Entry]time.Time, entries []distfile.Entry) map[distfile.Entry]time.Time {
	since, now := make(map[distfile.Entry]time.Time, len(entries)), time.Now()
	for _, e := range entries {
		e.Count = 0
		since[e] = now
		if at, ok := before[e]; ok {
			since[e] = at
		}
	}
	return since
}

// distribution gets the distribution of s.
func (o *Offers) distribution(ctx context.Context, s *remote.Server, q question) (r reply, err error) {
	req := remote.Request{Path: []string{distfile.FileName}}
	if q.wait > 0 {
		req.Header, req.Hold = q.header(), q.wait
		var h *remote.Held
		ctx, h = remote.WatchHeld(ctx, q.wait, o.opts.Timeout)
		defer func() { r.held, err = h.Ended(err) }()
	}
	body, err := o.opts.Remote.Get(ctx, s, req)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: nothing was published there yet, or it is no shardcast server", err)
	}
	if err != nil {
		return reply{}, err
	}
	defer body.Close()
	waits := wire.WaitApplied(body.Header.Values("Preference-Applied"))
	r = reply{
		unchanged: body.Unchanged, etag: body.Header.Get("ETag"), waits: waits,
		release: body.Header.Get(wire.ReleaseHeader),
	}
	if r.unchanged {
		return r, nil
	}
	r.entries, r.skipped, err = distfile.Parse(body)
	if err == nil && len(r.entries) == 0 && len(r.skipped) > 0 {
		err = fmt.Errorf("%w: no line of it is a version's: %w", remote.ErrForeign, r.skipped[0])
	}
	if err != nil {
		return reply{}, fmt.Errorf("%s: %w", s.URL.JoinPath(distfile.FileName).Redacted(), err)
	}
	return r, nil
}

// failures are the errors of several servers, as one sentence.
type failures []error

// Error joins the texts.
func (f failures) Error() string {
	texts := make([]string, len(f))
	for i, err := range f {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap leaves out servers that did not answer when others did: the others say what is
// the matter.
func (f failures) Unwrap() []error {
	var telling []error
	for _, err := range f {
		if !errors.Is(err, remote.ErrUnreachable) {
			telling = append(telling, err)
		}
	}
	if telling == nil {
		return f
	}
	return telling
}

// logged are failures of which the log has a line each.
type logged struct{ failures }

// Error says where they are.
func (l logged) Error() string {
	return fmt.Sprintf("none of the %d servers has versions to give; the log says why", len(l.failures))
}

// Failures returns the errors of several servers as one sentence. It matches what they
// match, but for [remote.ErrUnreachable] where any server has answered.
func Failures(errs []error) error { return failures(errs) }

// Named returns err with [ErrNoVersion], [shard.ErrIntegrity] or [remote.ErrUnreachable]
// in its text, if it matches one of these.
func Named(err error) error {
	for _, kind := range []error{trust.ErrNotTrusted, ErrNoVersion, shard.ErrIntegrity, remote.ErrUnreachable} {
		if errors.Is(err, kind) {
			return fmt.Errorf("%w: %w", kind, err)
		}
	}
	return err
}
